from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from triaxis.errors import StoreError
from triaxis.store import open_store
from triaxis.store.journal import journal_of
from triaxis.testing import FakeTrainer, chain_specs

RESULTS = [FakeTrainer()(spec) for spec in chain_specs()[:3]]

WRITER = """
import os, signal, sys
from triaxis.store import open_store
from triaxis.testing import FakeTrainer, chain_specs
store = open_store(sys.argv[1])
for spec in chain_specs()[:3]:
    store.put_trial(FakeTrainer()(spec))
store.put_record("seconds", {"collect": 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_reader_sees_what_a_living_writer_committed(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with open_store(path) as writer:
        writer.put_trial(RESULTS[0])
        with open_store(path, read_only=True) as reader:
            assert reader.trials() == (RESULTS[0],)
            writer.put_trial(RESULTS[1])
            assert reader.trials() == (RESULTS[0], RESULTS[1])


def test_a_reader_in_the_middle_of_reading_does_not_hold_up_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triaxis.store.sqlite.BUSY_SECONDS", 0.01)
    path = tmp_path / "store.sqlite"
    with open_store(path) as writer, open_store(path, read_only=True) as reader:
        reader._connection.execute("BEGIN")
        assert reader.trials() == ()
        writer.put_trial(RESULTS[0])
        assert reader.trials() == ()
        reader._connection.execute("ROLLBACK")
        assert reader.trials() == (RESULTS[0],)


def test_a_commit_outlives_a_power_cut(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.sqlite") as store:
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@pytest.mark.parametrize("read_only", [True, False])
def test_what_was_committed_outlives_a_kill(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "store.sqlite"
    killed = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with open_store(path, read_only=read_only) as store:
        assert store.trials() == tuple(RESULTS)
        assert store.record("seconds") == {"collect": 1}


def test_a_reader_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path).close()
    with open_store(path, read_only=True) as reader, pytest.raises(StoreError, match="must be writable"):
        reader.put_record("config", {})


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        open_store(tmp_path / "store.sqlite", read_only=True)
    assert not any(tmp_path.iterdir())


def test_a_store_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(StoreError, match="schema 99"):
            open_store(path, read_only)
    assert path.read_bytes() == before


def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="schema 0"):
        open_store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]
    connection.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"this is no database, it is only a text\n" * 100)
    with pytest.raises(StoreError, match=r"store\.sqlite .*damaged"):
        open_store(path)


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with open_store(path) as store:
        store.put_trial(RESULTS[0])
        store._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StoreError, match="disk is full"):
            store.put_record("big", "x" * 1_000_000)
        store._connection.execute("PRAGMA max_page_count = 1000000")
        assert store.trials() == (RESULTS[0],)
        store.put_trial(RESULTS[1])
        assert store.trials() == (RESULTS[0], RESULTS[1])


def test_a_second_writer_in_the_middle_of_a_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triaxis.store.sqlite.BUSY_SECONDS", 0.01)
    path = tmp_path / "store.sqlite"
    with open_store(path) as first, open_store(path) as second:
        first._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="one writer"):
            second.put_record("config", {})
        first._connection.execute("ROLLBACK")


def test_a_missing_directory_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="must be writable"):
        open_store(tmp_path / "nowhere" / "store.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_on_a_read_only_directory_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with open_store(path) as store:
        store.put_trial(RESULTS[0])
    tmp_path.chmod(0o555)
    try:
        with open_store(path, read_only=True) as store:
            assert store.trials() == (RESULTS[0],)
        with pytest.raises(StoreError):
            open_store(path)
    finally:
        tmp_path.chmod(0o755)


def test_a_read_only_place_is_opened_without_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a store? with #odd & name.sqlite"
    with open_store(path) as store:
        store.put_trial(RESULTS[0])
    monkeypatch.setattr("triaxis.store.sqlite.os.access", lambda *_: False)
    with open_store(path, read_only=True) as store:
        assert store.trials() == (RESULTS[0],)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == [journal_of(path).name, path.name]


def test_a_store_sent_to_another_process_reads_and_cannot_write(tmp_path: Path) -> None:
    import pickle

    with open_store(tmp_path / "store.sqlite") as store:
        store.put_record("base", {"macs": 3})
        with pickle.loads(pickle.dumps(store)) as sent:
            assert sent.record("base") == {"macs": 3}
            with pytest.raises(StoreError):
                sent.put_record("base", {"macs": 4})


@pytest.mark.parametrize("body", ["no JSON", "[]", "null", "{}", '{"schema": 1}', '{"schema": 1, "spec": 3, "state": "done"}', b"\xff\xfe"])
def test_a_damaged_trial_is_named_in_one_sentence(tmp_path: Path, body: str | bytes) -> None:
    path, trial_id = tmp_path / "store.sqlite", RESULTS[0].trial_id
    with open_store(path) as store:
        store.put_trial(RESULTS[0])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trials SET body = ?, number = NULL, seal = NULL", (body,))  # as version 0.1 would have left it
    connection.close()
    with open_store(path, read_only=True) as store:
        for read in (store.trials, lambda: store.trial(trial_id), lambda: store.put_trial(RESULTS[0])):
            with pytest.raises(StoreError, match=rf"trial {trial_id} in .*store\.sqlite is damaged") as caught:
                read()
            assert "\n" not in str(caught.value)
