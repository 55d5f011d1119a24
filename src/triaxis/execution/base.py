"""The contract of an executor, and the one loop that feeds it.

An executor takes trials whose parents are finished and gives results back, in any order. It knows nothing of chains,
stores or networks: `run_trials` keeps the order, and hands each result to the caller, who is the only writer of the
store. `triaxis.testing.ExecutorContract` checks what every executor promises:

* Each submitted trial gives exactly one result; results do not depend on the order or place of execution.
* What a trial needs of the driver is asked for by `Work.prepare`, in the driver's process, and what it made is kept by
  `Work.keep`, there again, once for each result. `Work.do` alone may be sent elsewhere: it depends on nothing but what it is given.
* A trial whose work raises is a failed result with its traceback. Two things pass through instead: `StoreError`, since
  no other trial could be saved either, and what is no `Exception`, such as Ctrl-C.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from triaxis.errors import ConfigError, StoreError
from triaxis.progress import Moment, Tell
from triaxis.values import DoneTrial, FailedTrial, TrialResult, TrialSpec

Simple = Callable[[TrialSpec], TrialResult]
"""Work that needs nothing but the spec, and makes nothing but the result."""

Do = Callable[[TrialSpec, Any, Tell], tuple[TrialResult, Any]]
"""Does one trial with what `Work.prepare` gave for it, tells how far it is, and returns the result and what else it made.

It may have a method ``open``, which is called once in each other process before its first trial; what that raises ends the
experiment."""

Lookup = Callable[[str], TrialResult | None]


def _nothing(spec: TrialSpec) -> Any:
    return None


def _as_it_is(result: DoneTrial, made: Any) -> TrialResult:
    return result


def _unheard(spec: TrialSpec, share: float, moment: Moment, place: str) -> None:
    pass


@dataclass(frozen=True)
class Work:
    """What is done for each trial: `prepare` here before, `do` anywhere, `keep` here after, and `hear` here in between.

    `prepare` returns what the trial needs beside its spec; `keep` takes what `do` made, and returns the result to be recorded;
    `hear` is told the share that is done, the moment, and the name of the machine, empty for this process.
    """

    do: Do
    prepare: Callable[[TrialSpec], Any] = _nothing
    keep: Callable[[DoneTrial, Any], TrialResult] = _as_it_is
    hear: Callable[[TrialSpec, float, Moment, str], None] = _unheard


@dataclass(frozen=True)
class _Done:
    """Simple work as a `Do`."""

    simple: Simple

    def __call__(self, spec: TrialSpec, given: Any, tell: Tell) -> tuple[TrialResult, Any]:
        return self.simple(spec), None


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
    work: Simple | Work,
    on_result: Callable[[TrialResult], None],
    known: Lookup = lambda trial_id: None,
) -> tuple[TrialResult, ...]:
    """Carry out trials, each after its parent, and return their results in the order of `specs`.

    A trial that `known` gives as done is not run again. A trial whose parent failed is recorded as failed.

    Args:
        executor: Carries them out.
        specs: The trials; a parent that is not among them must be known.
        work: Does one trial; must not depend on anything but the spec, and on what it prepares.
        on_result: Called in this process with each new result, before the next one is waited for.
        known: Looks a result up, for example a store's `trial`.

    Raises:
        ConfigError: A parent is neither among `specs` nor known.
    """
    found = _already_done(specs, known)
    waiting = {spec.trial_id: spec for spec in specs if spec.trial_id not in found}
    found |= _outside_parents(waiting, found, known)
    if not waiting:
        return tuple(found[spec.trial_id] for spec in specs)
    num_running = 0
    with executor.session(work if isinstance(work, Work) else Work(_Done(work))) as session:
        while waiting or num_running:
            for spec in [spec for spec in waiting.values() if spec.parent is None or spec.parent in found]:
                del waiting[spec.trial_id]
                if spec.parent and isinstance(found[spec.parent], FailedTrial):
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


def _already_done(specs: Sequence[TrialSpec], known: Lookup) -> dict[str, TrialResult]:
    results = (known(spec.trial_id) for spec in specs)
    return {result.trial_id: result for result in results if isinstance(result, DoneTrial)}


def _outside_parents(waiting: Mapping[str, TrialSpec], found: Mapping[str, TrialResult], known: Lookup) -> dict[str, TrialResult]:
    """Return the known results of the parents that are not to be run themselves."""
    results: dict[str, TrialResult] = {}
    for parent in {spec.parent for spec in waiting.values() if spec.parent} - set(waiting) - set(found):
        result = known(parent)
        if result is None:
            raise ConfigError(f"A trial's parent must be among the trials or in the store, but {parent} is neither.")
        results[parent] = result
    return results


def attempt(do: Do, spec: TrialSpec, given: Any, tell: Tell) -> tuple[TrialResult, Any]:
    """Do one trial; an exception becomes a failed result with its traceback."""
    try:
        return do(spec, given, tell)
    except StoreError:
        raise
    except Exception:  # noqa: BLE001  (a failed trial is a record, whatever failed)
        return failed(spec, traceback.format_exc()), None


def kept(work: Work, result: TrialResult, made: Any) -> TrialResult:
    """Keep what a trial made, and return its result; a failed one made nothing."""
    return work.keep(result, made) if isinstance(result, DoneTrial) else result


def failed(spec: TrialSpec, reason: str) -> FailedTrial:
    """Return the record of a trial that gave no accuracy."""
    return FailedTrial(spec=spec, error=reason)
