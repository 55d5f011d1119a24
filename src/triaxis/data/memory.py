"""Whether pictures are kept decoded in memory, or streamed from disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar

import psutil

from triaxis.process.ranks import num_launched_here

log = logging.getLogger(__name__)

RESIDENT_SHARE = 0.4
"""Share of the free memory that decoded images may take."""

_decided: ContextVar[MutableMapping[str, bool] | None] = ContextVar("decided", default=None)


def fits(num_images: int, bytes_each: int, memory: str, name: str) -> bool:
    """Say whether a split is kept in memory, and log why.

    Args:
        num_images: Of the split.
        bytes_each: What one takes decoded.
        memory: ``auto``, ``resident`` or ``stream``, as `data.memory`.
        name: The split's.
    """
    known = _decided.get()
    if known is not None and name in known:
        return known[name]
    needed, free = num_images * bytes_each, psutil.virtual_memory().available
    resident = memory == "resident" or (memory == "auto" and num_launched_here() * needed <= RESIDENT_SHARE * free)
    where = "kept decoded in memory" if resident else "streamed from disk"
    log.info("%s: %d images need %.0f MB decoded, %.0f MB are free: %s", name, num_images, needed / 1e6, free / 1e6, where)
    if known is not None:
        known[name] = resident
    return resident


@contextmanager
def deciding(known: MutableMapping[str, bool]) -> Iterator[None]:
    """Take what is decided for each split, and note what is decided within: all processes of a run must decide alike."""
    token = _decided.set(known)
    try:
        yield
    finally:
        _decided.reset(token)


def num_workers(asked: int) -> int:
    """Return how many processes decode streamed images: as many as asked for, or for 0 this process's share of the cores."""
    return asked or max(1, (psutil.cpu_count() or 1) // num_launched_here())
