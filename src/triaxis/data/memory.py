"""Whether pictures are kept decoded in memory, or streamed from disk."""

from __future__ import annotations

import logging

import psutil

log = logging.getLogger(__name__)

RESIDENT_SHARE = 0.4
"""Share of the free memory that decoded images may take."""


def fits(num_images: int, bytes_each: int, memory: str, name: str) -> bool:
    """Say whether a split is kept in memory, and log why.

    Args:
        num_images: Of the split.
        bytes_each: What one takes decoded.
        memory: ``auto``, ``resident`` or ``stream``, as `data.memory`.
        name: The split's.
    """
    needed, free = num_images * bytes_each, psutil.virtual_memory().available
    resident = memory == "resident" or (memory == "auto" and needed <= RESIDENT_SHARE * free)
    where = "kept decoded in memory" if resident else "streamed from disk"
    log.info("%s: %d images need %.0f MB decoded, %.0f MB are free: %s", name, num_images, needed / 1e6, free / 1e6, where)
    return resident
