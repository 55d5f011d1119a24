from __future__ import annotations

from pathlib import Path

import pytest

from triaxis.store import MemoryStore, open_store
from triaxis.testing import StoreContract
from triaxis.testing.stores import MakeStore


class TestMemoryStore(StoreContract):
    survives_reopening = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        return MemoryStore


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda: open_store(tmp_path / "store.sqlite")


class TestSqliteStoreOnANetworkDisk(StoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeStore:
        monkeypatch.setattr("triaxis.store.sqlite.shared_kind", lambda path: "nfs4")
        return lambda: open_store(tmp_path / "store.sqlite")
