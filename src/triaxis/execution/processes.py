"""Many trials at once, in worker processes of this machine. It needs nothing but Python."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from triaxis.execution.base import Do, Work, attempt, failed, kept
from triaxis.execution.share import Share
from triaxis.execution.workers import Died, Said, Say, Workers
from triaxis.progress import Moment
from triaxis.values import TrialResult, TrialSpec

log = logging.getLogger(__name__)

BEAT_S = 1.0
"""A running trial tells how far it is no more than once in this time."""


class ProcessesExecutor:
    """Carries out up to `workers` trials at once; results equal the serial executor's, since seeds come from the trials.

    Each process trains on as many threads as this one where the work does not say otherwise.

    Args:
        workers: Trials at once; None takes as many as fit.
        share: What a trial takes of this machine.
        retries: Times that a trial is started again after its process was lost.
    """

    def __init__(self, workers: int | None = None, *, share: Share | None = None, retries: int = 2) -> None:
        self._workers, self._share, self._retries = workers, share or Share(), retries

    @contextmanager
    def session(self, work: Work) -> Iterator[ProcessesSession]:
        """Start processes as they are needed, and stop them all at the end.

        Raises:
            ConfigError: The work cannot be sent to another process.
        """
        torch = sys.modules.get("torch")
        most = self._workers or self._places
        with Workers[_Sent](_Open(work.do, torch.get_num_threads() if torch else None), most) as workers:
            yield ProcessesSession(workers, work, most, self._retries)

    @property
    def _places(self) -> int:
        """As many trials as have their share of this machine; on a GPU as many as share it."""
        if self._share.gpus:
            return max(1, int(1 / self._share.gpus))
        return max(1, (os.cpu_count() or 1) // (self._share.cpus or self._share.max_cpus or 1))


@dataclass(frozen=True)
class _Sent:
    """A trial as a process gets it."""

    spec: TrialSpec
    given: Any


class ProcessesSession:
    """Trials that wait, and those that processes are at."""

    def __init__(self, workers: Workers[_Sent], work: Work, most: int, retries: int) -> None:
        self._workers, self._work, self._most, self._retries = workers, work, most, retries
        self._waiting: deque[TrialSpec] = deque()
        self._num_running = 0
        self._lost: dict[str, int] = {}

    def submit(self, spec: TrialSpec) -> None:
        """Take one trial; it starts as soon as a process is free."""
        self._waiting.append(spec)

    def next_result(self) -> TrialResult:
        """Wait for any running trial, and listen meanwhile to all.

        Raises:
            StoreError: The disk is full, there or here.
            ConfigError: A process cannot start.
        """
        while True:
            while self._waiting and self._num_running < self._most:
                spec = self._waiting.popleft()
                # What a trial is given may be large: it is made when its turn has come.
                self._workers.submit(_Sent(spec, self._work.prepare(spec)))
                self._num_running += 1
            event = self._workers.next_event()
            spec = event.task.spec
            if isinstance(event, Said):
                share, moment = event.word
                self._work.hear(spec, share, moment, "")
                continue
            self._num_running -= 1
            if not isinstance(event, Died):
                return kept(self._work, *event.reply)
            found = self._after_death(spec, event.code)
            if found is not None:
                return found

    def _after_death(self, spec: TrialSpec, code: int | None) -> TrialResult | None:
        """Start a trial again whose process ended, or return it as failed where that happened too often."""
        lost = self._lost[spec.trial_id] = self._lost.get(spec.trial_id, 0) + 1
        reason = f"the worker process ended with code {code}, perhaps for want of memory: set fewer collect.workers"
        if lost > self._retries:
            return failed(spec, reason)
        log.warning("trial %s is started again: %s", spec.trial_id, reason)
        self._waiting.appendleft(spec)
        return None


@dataclass(frozen=True)
class _Open:
    """Opens what a process does with trials."""

    do: Do
    threads: int | None

    def __call__(self) -> Any:
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        opening = getattr(self.do, "open", None)
        if opening is not None:
            opening()
        return functools.partial(_attempt, self.do)


def _attempt(do: Do, sent: _Sent, say: Say) -> tuple[TrialResult, Any]:
    said = -float("inf")

    def tell(share: float, moment: Moment) -> None:
        nonlocal said
        if moment.event != "step" or time.monotonic() - said >= BEAT_S:
            said = time.monotonic()
            say((share, moment))

    return attempt(do, sent.spec, sent.given, tell)
