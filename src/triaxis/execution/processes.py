"""Many trials at once, in worker processes of this machine. It needs nothing but Python."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from triaxis.execution.base import Work, attempt, failed
from triaxis.execution.workers import Died, Replied, Say, Workers
from triaxis.values import TrialResult, TrialSpec

log = logging.getLogger(__name__)


class ProcessesExecutor:
    """Carries out up to `workers` trials at once; results equal the serial executor's, since seeds come from the trials.

    Each process trains on as many threads as this one, so that sums are taken in the same order.

    Args:
        workers: Trials at once.
        retries: Times that a trial is started again after its process was lost.
    """

    def __init__(self, workers: int = 1, *, retries: int = 1) -> None:
        self._workers, self._retries = workers, retries

    @contextmanager
    def session(self, work: Work) -> Iterator[ProcessesSession]:
        """Start processes as they are needed, and stop them all at the end.

        Raises:
            ConfigError: The work cannot be sent to another process.
        """
        torch = sys.modules.get("torch")
        with Workers[TrialSpec](_Open(work, torch.get_num_threads() if torch else None), self._workers) as workers:
            yield ProcessesSession(workers, self._retries)


class ProcessesSession:
    """Trials that processes are at, or that wait for one."""

    def __init__(self, workers: Workers[TrialSpec], retries: int) -> None:
        self._workers, self._retries = workers, retries
        self._lost: dict[str, int] = {}

    def submit(self, spec: TrialSpec) -> None:
        """Take one trial; it starts as soon as a process is free."""
        self._workers.submit(spec)

    def next_result(self) -> TrialResult:
        """Wait for any running trial; one whose process is lost is started again.

        Raises:
            StoreError: The disk is full.
            ConfigError: A process cannot start.
        """
        while True:
            event = self._workers.next_event()
            if isinstance(event, Replied):
                return event.reply
            if isinstance(event, Died) and (found := self._after_death(event.task, event.code)) is not None:
                return found

    def _after_death(self, spec: TrialSpec, code: int | None) -> TrialResult | None:
        lost = self._lost[spec.trial_id] = self._lost.get(spec.trial_id, 0) + 1
        reason = f"the worker process ended with code {code}, perhaps for want of memory: set fewer collect.workers"
        if lost > self._retries:
            return failed(spec, reason)
        log.warning("trial %s is started again, because %s", spec.trial_id, reason)
        self.submit(spec)
        return None


@dataclass(frozen=True)
class _Open:
    """Opens what a process does with trials."""

    work: Work
    threads: int | None

    def __call__(self) -> Callable[[TrialSpec, Say], TrialResult]:
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        return functools.partial(_attempt, self.work)


def _attempt(work: Work, spec: TrialSpec, say: Say) -> TrialResult:
    return attempt(work, spec)
