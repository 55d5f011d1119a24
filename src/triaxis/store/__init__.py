"""Where a run's trials, records and checkpoints are kept."""

from __future__ import annotations

from triaxis.store.base import RECORD_KEYS, Store
from triaxis.store.memory import MemoryStore
from triaxis.store.sqlite import SqliteStore, open_store

__all__ = ["RECORD_KEYS", "MemoryStore", "SqliteStore", "Store", "open_store"]
