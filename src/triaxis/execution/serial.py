"""One trial after another, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from triaxis.execution.base import Work, attempt, kept
from triaxis.progress import Moment
from triaxis.values import TrialResult, TrialSpec


class SerialExecutor:
    """Works on trials in the order in which they become ready; see `triaxis.execution.base`."""

    @contextmanager
    def session(self, work: Work) -> Iterator[SerialSession]:
        """Get ready to do `work`."""
        yield SerialSession(work)


class SerialSession:
    """A queue whose head is worked on when a result is asked for."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._queue: deque[TrialSpec] = deque()

    def submit(self, spec: TrialSpec) -> None:
        """Put one trial at the end of the queue."""
        self._queue.append(spec)

    def next_result(self) -> TrialResult:
        """Do the first trial of the queue."""
        spec, work = self._queue.popleft(), self._work

        def tell(share: float, moment: Moment) -> None:
            work.hear(spec, share, moment, "")

        return kept(work, *attempt(work.do, spec, work.prepare(spec), tell))
