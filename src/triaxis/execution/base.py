"""The contract of an executor, and the one loop that feeds it.

An executor takes trials whose parents are finished and gives results back, in any order. It knows nothing of chains,
stores or networks: `run_trials` keeps the order, and hands each result to the caller, who is the only writer of the
store. `triaxis.testing.ExecutorContract` checks what every executor promises:

* Each submitted trial gives exactly one result; results do not depend on the order or place of execution.
* A trial whose work raises is a failed result with its traceback. Two things pass through instead: `StoreError`, since
  no other trial could be saved either, and what is no `Exception`, such as Ctrl-C.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from triaxis.errors import ConfigError, StoreError
from triaxis.values import TrialResult, TrialSpec

Work = Callable[[TrialSpec], TrialResult]


class Session(Protocol):
    """Trials on their way."""

    def submit(self, spec: TrialSpec) -> None:
        """Take one trial; its parent is finished."""
        ...

    def next_result(self) -> TrialResult:
        """Wait for a submitted trial to end and return its result, each once."""
        ...


class Executor(Protocol):
    """Carries out trials; see the module's contract."""

    def session(self, work: Work) -> AbstractContextManager[Session]:
        """Get ready to do `work` for many trials; leaving the context stops what still runs."""
        ...


def run_trials(
    executor: Executor,
    specs: Sequence[TrialSpec],
    work: Work,
    on_result: Callable[[TrialResult], None],
    known: Callable[[str], TrialResult | None] = lambda trial_id: None,
) -> tuple[TrialResult, ...]:
    """Carry out trials, each after its parent, and return their results in the order of `specs`.

    A trial that `known` gives as done is not run again. A trial whose parent failed is recorded as failed.

    Args:
        executor: Carries them out.
        specs: The trials; a parent that is not among them must be known.
        work: Does one trial; must not depend on anything but the spec.
        on_result: Called in this process with each new result, before the next one is waited for.
        known: Looks a result up, for example a store's `trial`.

    Raises:
        ConfigError: A parent is neither among `specs` nor known.
    """
    found: dict[str, TrialResult] = {}
    waiting: list[TrialSpec] = []
    for spec in specs:
        old = known(spec.trial_id)
        if old is not None and old.state == "done":
            found[spec.trial_id] = old
        elif all(spec.trial_id != other.trial_id for other in waiting):
            waiting.append(spec)
    _look_up_parents(waiting, found, known)
    with executor.session(work) as session:
        num_running = 0
        while waiting or num_running:
            waiting, ready = _split(waiting, found)
            for spec in ready:
                parent = found[spec.parent] if spec.parent else None
                if parent is not None and parent.state == "failed":
                    found[spec.trial_id] = failed(spec, f"not run, because its parent {spec.parent} failed")
                    on_result(found[spec.trial_id])
                else:
                    session.submit(spec)
                    num_running += 1
            if num_running:
                result = session.next_result()
                num_running -= 1
                found[result.trial_id] = result
                on_result(result)
    return tuple(found[spec.trial_id] for spec in specs)


def _look_up_parents(waiting: Sequence[TrialSpec], found: dict[str, TrialResult], known: Callable[[str], TrialResult | None]) -> None:
    """Add to `found` the parents that are not waiting themselves."""
    ids = {spec.trial_id for spec in waiting}
    for parent in {spec.parent for spec in waiting if spec.parent} - ids - set(found):
        result = known(parent)
        if result is None:
            raise ConfigError(f"A trial's parent must be among the trials or in the store, but {parent} is neither.")
        found[parent] = result


def _split(waiting: Sequence[TrialSpec], found: dict[str, TrialResult]) -> tuple[list[TrialSpec], list[TrialSpec]]:
    """Return the trials that must wait for their parent, and those that need not."""
    ready = [spec for spec in waiting if spec.parent is None or spec.parent in found]
    return [spec for spec in waiting if not (spec.parent is None or spec.parent in found)], ready


def attempt(work: Work, spec: TrialSpec) -> TrialResult:
    """Do one trial; an exception becomes a failed result with its traceback."""
    try:
        return work(spec)
    except StoreError:
        raise
    except Exception:  # noqa: BLE001  (a failed trial is a record, whatever failed)
        return failed(spec, traceback.format_exc())


def failed(spec: TrialSpec, reason: str) -> TrialResult:
    """Return the record of a trial that gave no accuracy."""
    return TrialResult(spec=spec, state="failed", error=reason)
