"""Signals that ask a run to end soon, as batch queues send them before a time limit.

Inside `heeding_signals`, SIGTERM and SIGUSR1 end the work as an `InterruptedRunError`. What must not be torn apart, such as a
training step, is done inside `postponed`, and asks `requested` when it has come to a good place.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from triaxis.errors import InterruptedRunError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Stop(BaseException):
    """Leaves everything, like KeyboardInterrupt; no `except Exception` on the way may take it for a failed trial."""


@dataclass
class _State:
    owner: int = 0
    asked_by: str = ""
    num_postponing: int = 0


_state = _State()


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 end what runs inside; outside the main thread, where Python gives no signals, do nothing.

    Raises:
        InterruptedRunError: A signal came.
    """
    if _state.owner == os.getpid() or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in SIGNALS}
    _state.owner, _state.asked_by, _state.num_postponing = os.getpid(), "", 0
    try:
        yield
    except Stop:
        raise InterruptedRunError(
            f"The run was asked to stop by {_state.asked_by or 'the program'}; what was done so far is saved: "
            "run the same command again to go on."
        ) from None
    finally:
        _state.owner = 0
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _state.owner:
        # A forked worker, such as a DataLoader's: its parent decides, unless it is ended on purpose.
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    _state.asked_by = signal.Signals(number).name
    if not _state.num_postponing:
        raise Stop


@contextmanager
def postponed() -> Iterator[None]:
    """Let a signal wait until what is inside has ended, or asks for it by `requested`."""
    _state.num_postponing += 1
    try:
        yield
    finally:
        _state.num_postponing -= 1
    if requested() and not _state.num_postponing:
        raise Stop


def requested() -> bool:
    """Whether a signal has come."""
    return _state.owner == os.getpid() and bool(_state.asked_by)
