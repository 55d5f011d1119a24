"""Where a run's trials, records and checkpoints are kept."""

from __future__ import annotations

from triaxis.store.base import Store
from triaxis.store.memory import MemoryStore
from triaxis.store.sqlite import SqliteStore, open_store

__all__ = ["MemoryStore", "SqliteStore", "Store", "open_store"]
