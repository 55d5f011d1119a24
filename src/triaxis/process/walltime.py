"""Where wall time goes: each second of a piece of work belongs to one part of it, such as training or calibration.

Functions that do a part are marked once, where they are defined:

    @part("calibration")
    def calibrate(...): ...

and whoever wants to know opens a ledger around them. A part within a part counts for the inner one only, so that the parts
of a ledger never add up to more than its time. On a GPU, work that is queued counts where it is waited for.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

PARTS = ("teacher", "block choice", "cutting", "training", "calibration", "validation", "checkpoints")
"""The parts in the order in which they are shown; the time of none of them is called other."""


class _Ledger:
    """Seconds by part, and the time that inner parts have taken from those that are open."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.taken: list[float] = []


_open: ContextVar[_Ledger | None] = ContextVar("ledger", default=None)


@contextmanager
def ledger() -> Iterator[dict[str, float]]:
    """Note the seconds of each part that runs within; one that is opened within another keeps its parts to itself."""
    made = _Ledger()
    token = _open.set(made)
    try:
        yield made.seconds
    finally:
        _open.reset(token)


def part(name: str) -> Callable[[Callable[Arguments, Answer]], Callable[Arguments, Answer]]:
    """Mark a function as one part of the work."""

    def mark(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
        @functools.wraps(function)
        def timed(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
            found = _open.get()
            return function(*args, **kwargs) if found is None else _timed(found, name, functools.partial(function, *args, **kwargs))

        return timed

    return mark


def _timed(found: _Ledger, name: str, call: Callable[[], Answer]) -> Answer:
    start = time.perf_counter()
    found.taken.append(0.0)
    try:
        return call()
    finally:
        whole = time.perf_counter() - start
        found.seconds[name] = found.seconds.get(name, 0.0) + whole - found.taken.pop()
        if found.taken:
            found.taken[-1] += whole


def added(*spent: dict[str, float]) -> dict[str, float]:
    """Return the sums of several ledgers, part by part, in the order of `PARTS`."""
    names = [*PARTS, *(name for one in spent for name in one if name not in PARTS)]
    return {name: sum(one.get(name, 0.0) for one in spent) for name in dict.fromkeys(names) if any(name in one for one in spent)}
