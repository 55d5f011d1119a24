"""The wall time of a stage: shown while it runs, and added to the records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from triaxis.process.walltime import added, ledger
from triaxis.progress import Advance, Progress
from triaxis.store.base import Store


@contextmanager
def timed(store: Store, progress: Progress, stage: str) -> Iterator[Advance]:
    """Show a stage, and add the time it takes to the records, over all the processes that work on it; one that is stopped counts too."""
    start = time.perf_counter()
    with ledger() as spent:
        try:
            with progress.stage(stage) as advance:
                yield advance
        finally:
            record = store.record("seconds") or {}
            store.put_record("seconds", {**record, stage: record.get(stage, 0.0) + time.perf_counter() - start})
            if spent:
                parts = store.record("seconds_by_part") or {}
                store.put_record("seconds_by_part", {**parts, stage: added(parts.get(stage, {}), spent)})
