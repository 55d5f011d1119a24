"""The contract of a store, in prose and as a type.

A store keeps two kinds of things of one run: *trials*, which are only ever added, and *records*, one plain JSON value
under each key. What every store promises, and `triaxis.testing.StoreContract` checks:

* A trial or record is durable when the call that wrote it returns; a process killed during the call leaves either the
  old state or the new one.
* `trials()` gives the results in the order in which they were committed.
* A finished trial is final: writing it again unchanged does nothing, writing another result for it is a `StoreError`.
  A failed trial may be replaced, and then counts as committed anew.
* What is read equals what was written, and changing it changes nothing in the store.
* One process, the driver, writes; any number may read at the same time, each seeing whole commits only.
* Every failure is a `StoreError` with one sentence; nothing else leaves a store.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self

from triaxis.errors import StoreError
from triaxis.values import DoneTrial, TrialResult


class Store(Protocol):
    """Keeps the trials and records of one run; see the module's contract."""

    def put_trial(self, result: TrialResult) -> None:
        """Commit one result.

        Raises:
            StoreError: The trial is finished already with another result, or the store cannot be written.
        """
        ...

    def trial(self, trial_id: str) -> TrialResult | None:
        """Return one result, or None."""
        ...

    def trials(self) -> tuple[TrialResult, ...]:
        """Return all results in the order of commit."""
        ...

    def put_record(self, key: str, plain: Any) -> None:
        """Commit plain JSON data under a key, in place of what was there.

        Raises:
            StoreError: The data are not plain JSON (NaN is not), or the store cannot be written.
        """
        ...

    def record(self, key: str) -> Any:
        """Return the plain data of a key, or None."""
        ...

    def close(self) -> None:
        """Let go of the files; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def check_final(old: TrialResult | None, new: TrialResult) -> bool:
    """Return whether `new` must be written over `old`.

    Raises:
        StoreError: `old` is finished and differs.
    """
    if not isinstance(old, DoneTrial):
        return True
    if old != new:
        raise StoreError(f"A finished trial is final: trial {new.trial_id} is in the store with another result, so the new one is refused.")
    return False
