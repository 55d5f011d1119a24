"""A store on a network file system: no write-ahead log, which would need a file that all processes map into memory."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest

from triaxis.config import Config
from triaxis.errors import StoreError, StoreLockedError
from triaxis.store import open_store
from triaxis.store.directory import RunDirectory
from triaxis.store.shared_disks import shared_kind
from triaxis.testing import FakeTrainer, chain_specs

Mount = namedtuple("Mount", "mountpoint fstype")


def mounted(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[str | Path, str]) -> None:
    found = [Mount(str(place), kind) for place, kind in mounts]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: found)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/run/store.sqlite", "nfs4"),
        ("/data", "nfs4"),
        ("/database/run", None),
        ("/data/local/run", None),
        ("/lustre/scratch/a", "lustre"),
        ("/ssh/run", "fuse.sshfs"),
        ("/tmp/run", None),
        ("/auto/run", "nfs"),
        ("/fuse/run", None),
    ],
)
def test_the_nearest_mount_above_a_path_decides(monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None) -> None:
    mounted(
        monkeypatch, ("/", "ext4"), ("/data", "nfs4"), ("/data/local", "xfs"), ("/lustre", "lustre"), ("/ssh", "fuse.sshfs"),
        ("/auto", "autofs"), ("/auto", "nfs"), ("/fuse", "fuse.portal"),
    )  # fmt: skip
    assert shared_kind(path) == kind


def test_the_own_mount_table_is_read(tmp_path: Path) -> None:
    assert shared_kind("/proc/self") is None
    assert shared_kind(tmp_path / "not" / "there") == shared_kind(tmp_path)


def mode_of(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_store_on_a_network_disk_keeps_a_rollback_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, ("/", "ext4"), (tmp_path, "nfs4"))
    path = tmp_path / "store.sqlite"
    result = FakeTrainer()(chain_specs()[0])
    with open_store(path) as store:
        store.put_trial(result)
        assert mode_of(path) == "delete"
        assert {file.name for file in tmp_path.iterdir()} == {"store.sqlite", "store.journal"}  # no log, no file in memory
        with open_store(path, read_only=True) as reader:  # readers are let in between two commits
            assert reader.trials() == (result,)
            store.put_record("seconds", {"base": 1.0})
            assert reader.record("seconds") == {"base": 1.0}


def test_a_store_that_was_moved_to_a_network_disk_with_its_log_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, result = tmp_path / "store.sqlite", FakeTrainer()(chain_specs()[0])
    left = open_store(path)
    left.put_trial(result)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    left.close()
    assert set(files) == {"store.sqlite", "store.sqlite-wal", "store.journal"}
    moved = tmp_path / "moved"
    moved.mkdir()
    for name, content in files.items():
        (moved / name).write_bytes(content)
    mounted(monkeypatch, ("/", "ext4"), (moved, "cifs"))
    with open_store(moved / "store.sqlite") as store:
        assert store.trials() == (result,)
        assert mode_of(moved / "store.sqlite") == "delete"
    mounted(monkeypatch, ("/", "ext4"))
    with open_store(moved / "store.sqlite") as store:  # and back
        assert store.trials() == (result,) and mode_of(moved / "store.sqlite") == "wal"


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOLCK, StoreError, "on a disk that locks files"),
        (errno.EOPNOTSUPP, StoreError, "on a disk that locks files"),
        (errno.EAGAIN, StoreLockedError, "one writer at a time"),
    ],
)
def test_a_disk_without_locks_is_not_a_second_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StoreError], words: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(StoreError, match=words) as caught, RunDirectory(tmp_path / "run").open(Config()):
        pass
    assert type(caught.value) is kind
