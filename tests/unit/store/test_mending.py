"""A store that is damaged on disk, in any way, is made again of its journal, and a damaged journal of the store."""

from __future__ import annotations

import logging
import random
import sqlite3
from pathlib import Path

import pytest

from triaxis.config import Config
from triaxis.errors import StoreError
from triaxis.store import open_store
from triaxis.store.directory import RunDirectory
from triaxis.store.journal import Journal, journal_of, line_of, places_in, read_line
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import FailedTrial

RESULTS = [FakeTrainer()(spec) for spec in chain_specs()[:8]]
RECORDS = {"base": {"val_accuracy": 0.5}, "a key with ' and µ\t": [1, "\ud800", 1e-300], "config": {"text": "x" * 9000}}
PAGE = 4096


def fill(path: Path) -> None:
    with open_store(path) as store:
        for key, plain in RECORDS.items():
            store.put_record(key, plain)
        store.put_trial(FailedTrial(spec=RESULTS[0].spec, error="broke"))
        for result in RESULTS:
            store.put_trial(result)
        store.put_record("base", {"val_accuracy": 0.75})


def is_whole(path: Path, *, read_only: bool = False) -> bool:
    with open_store(path, read_only=read_only) as store:
        kept = {key: store.record(key) for key in RECORDS}
        return store.trials() == tuple(RESULTS) and kept == {**RECORDS, "base": {"val_accuracy": 0.75}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "store.sqlite")
    return tmp_path / "store.sqlite"


def copies(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), journal_of(path).read_bytes()


def put_back(path: Path, store: bytes, journal: bytes | None) -> None:
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(store)
    if journal is not None:
        journal_of(path).write_bytes(journal)


def test_a_whole_store_is_left_alone(path, caplog):
    before = journal_of(path).read_bytes()
    assert is_whole(path)
    assert journal_of(path).read_bytes() == before and caplog.text == ""
    assert sorted(file.name for file in path.parent.iterdir()) == ["store.journal", "store.sqlite"]


def test_cut_off_at_each_page_it_is_made_again_and_nothing_is_lost(path, caplog):
    store, journal = copies(path)
    assert len(store) > 6 * PAGE
    for length in range(0, len(store), PAGE):
        put_back(path, store[:length], journal)
        assert is_whole(path), length
        assert is_whole(path, read_only=True), length
    # A file that is empty cannot be told from a new one but by its journal.
    assert caplog.text.count("is made again of") == len(store) // PAGE
    assert (path.parent / "store.sqlite.damaged").exists()


def test_cut_off_at_any_of_the_last_bytes_it_is_made_again(path):
    store, journal = copies(path)
    for length in range(len(store) - PAGE, len(store), 97):
        put_back(path, store[:length], journal)
        assert is_whole(path), length


def test_any_flipped_bit_is_found_and_mended(path):
    store, journal = copies(path)
    places = random.Random(0).sample(range(8 * len(store)), 250) + list(range(0, 8 * 100, 13))
    said = set()
    for place in places:
        flipped = bytearray(store)
        flipped[place // 8] ^= 1 << place % 8
        put_back(path, bytes(flipped), journal)
        try:
            assert is_whole(path), place
        except StoreError as error:
            # Only its number of version cannot be told from another version's.
            said.add(str(error))
            assert 60 <= place // 8 < 64, place
    assert all("store.sqlite" in words and "\n" not in words for words in said)


def test_a_reader_never_takes_a_changed_body_for_the_one_that_was_written(path):
    store, journal = copies(path)
    at = store.index(b'"val_accuracy":0.')
    put_back(path, store[: at + 18] + bytes([store[at + 18] ^ 1]) + store[at + 19 :], journal)
    with open_store(path, read_only=True) as reader, pytest.raises(StoreError, match="is damaged, as its seal shows: `triaxis run`"):
        assert (reader.trials(), reader.record("base")) is None
    assert is_whole(path)


def test_a_journal_cut_off_or_changed_anywhere_is_made_again_of_the_store(path):
    store, journal = copies(path)
    whole = places_in(journal_of(path))[0]
    for length in [*range(0, len(journal), 211), len(journal) - 1]:
        put_back(path, store, journal[:length])
        assert is_whole(path)
        assert places_in(journal_of(path))[0].keys() == whole.keys(), length
    for place in random.Random(0).sample(range(8 * len(journal)), 100):
        flipped = bytearray(journal)
        flipped[place // 8] ^= 1 << place % 8
        put_back(path, store, bytes(flipped))
        assert is_whole(path)
        assert {name: found.seal for name, found in places_in(journal_of(path))[0].items()} == {n: p.seal for n, p in whole.items()}, place


def test_a_store_that_is_gone_is_made_again(path):
    path.unlink()
    assert is_whole(path)


def test_where_both_are_damaged_only_what_is_damaged_in_both_is_lost(path):
    store, journal = copies(path)
    lines = journal.splitlines(keepends=True)
    lost = next(n for n, line in enumerate(lines) if (read_line(line) or (0, ""))[1] == ("trials", RESULTS[3].trial_id))
    put_back(path, store[: 2 * PAGE], b"".join([*lines[:lost], b"x" + lines[lost], *lines[lost + 1 :]]))
    with open_store(path) as mended:
        assert [result for result in RESULTS if result not in mended.trials()] in ([], [RESULTS[3]])
        assert mended.record("base") == {"val_accuracy": 0.75}


def test_a_write_ahead_log_that_was_cut_off_loses_no_commit(tmp_path):
    """A killed process leaves one; its last commits are nowhere else but in the journal."""
    path, dead = tmp_path / "store.sqlite", tmp_path / "dead"
    dead.mkdir()
    with open_store(path) as store:
        for result in RESULTS:
            store.put_trial(result)
        for file in tmp_path.glob("store.*"):
            (dead / file.name).write_bytes(file.read_bytes())
    log = dead / "store.sqlite-wal"
    whole = {file.name: file.read_bytes() for file in dead.iterdir()}
    assert len(whole[log.name]) > 4 * PAGE
    for length in range(0, len(whole[log.name]), 2039):
        for file in dead.iterdir():
            file.unlink()
        for name, content in whole.items():
            (dead / name).write_bytes(content[:length] if name == log.name else content)
        with open_store(dead / "store.sqlite") as store:
            assert store.trials() == tuple(RESULTS), length


def test_a_damaged_store_without_a_journal_is_named_and_left_alone(path):
    store, _ = copies(path)
    put_back(path, store[: 3 * PAGE], None)
    with pytest.raises(StoreError, match=r"store\.sqlite must be a triaxis store, but the file is damaged .*put a copy"):
        open_store(path)
    assert path.read_bytes() == store[: 3 * PAGE]


def test_a_store_of_version_0_1_is_read_and_given_a_journal(path):
    store = sqlite3.connect(path)
    for table in ("trials", "records"):
        store.execute(f"ALTER TABLE {table} DROP COLUMN number")
        store.execute(f"ALTER TABLE {table} DROP COLUMN seal")
    store.commit()
    store.close()
    put_back(path, path.read_bytes(), None)
    old = path.read_bytes()
    assert is_whole(path, read_only=True)
    assert path.read_bytes() == old and not journal_of(path).exists()
    assert is_whole(path) and len(places_in(journal_of(path))[0]) == len(RESULTS) + len(RECORDS)
    path.write_bytes(path.read_bytes()[: 2 * PAGE])
    assert is_whole(path)


def test_what_an_older_version_wrote_meanwhile_counts(path):
    store = sqlite3.connect(path)
    store.execute("INSERT OR REPLACE INTO records (key, body) VALUES ('base', '{\"val_accuracy\":0.25}')")
    store.commit()
    store.close()
    for _ in range(2):
        with open_store(path) as mended:
            assert mended.record("base") == {"val_accuracy": 0.25}
        path.unlink()


def test_a_kill_between_the_two_copies_is_made_up_for(path, monkeypatch):
    monkeypatch.setattr(Journal, "add", lambda *_: None)
    with open_store(path) as store:
        store.put_record("late", 1)
    monkeypatch.undo()
    open_store(path).close()
    path.unlink()
    with open_store(path) as store:
        assert store.record("late") == 1


def test_a_journal_does_not_grow_without_end(path):
    with open_store(path) as store:
        for number in range(300):
            store.put_record("seconds", {"collect": number})
    long = journal_of(path).stat().st_size
    assert is_whole(path)
    assert journal_of(path).stat().st_size < long / 2
    with open_store(path) as store:
        assert store.record("seconds") == {"collect": 299}


def test_half_a_line_is_taken_back_where_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "store.journal"
    journal = Journal(path)
    journal.add(1, ("records", "a"), "1")

    def half(self: Journal, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "_write", half)
    with pytest.raises(StoreError, match=r"store\.journal must have room, but the disk is full"):
        journal.add(2, ("records", "b"), "2")
    monkeypatch.undo()
    journal.add(2, ("records", "b"), "3")
    journal.close()
    assert path.read_bytes() == line_of(1, ("records", "a"), "1") + line_of(2, ("records", "b"), "3")


def test_a_mended_configuration_begins_with_a_new_journal(tmp_path):
    run = RunDirectory(tmp_path)
    with run.open(Config()) as store:
        store.put_record("environment", {"mode": "of another model"})
    with run.open(Config(seed=5)) as store:
        assert store.record("environment") is None


def test_a_run_whose_store_is_gone_is_still_one(tmp_path, caplog):
    run = RunDirectory(tmp_path)
    with run.open(Config()) as store:
        store.put_trial(RESULTS[0])
    run.store_file.unlink()
    with caplog.at_level(logging.WARNING), run.open() as store:
        assert store.trials() == (RESULTS[0],)
    assert "is made again of" in run.log_file.read_text()
