"""A store that was damaged on disk is made again from its journal, and a journal that was damaged from its store.

Each body in the store carries the number and the seal of its commit, as its line in the journal does. So of two copies the
later whole one is taken; only what is damaged in both is lost.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from triaxis.errors import StoreError
from triaxis.store.files import remove_file, unwritable, write_atomic
from triaxis.store.journal import TABLES, Name, Place, body_at, journal_of, places_in, seal_of, write_journal
from triaxis.store.shared_disks import shared_kind

log = logging.getLogger(__name__)

SCHEMA_NUMBER = 1
TABLES_SQL = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS trials (
    place INTEGER PRIMARY KEY AUTOINCREMENT, trial_id TEXT UNIQUE NOT NULL, body TEXT NOT NULL, number INTEGER, seal TEXT);
CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, body TEXT NOT NULL, number INTEGER, seal TEXT) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_NUMBER};
COMMIT;
"""

DAMAGED_SUFFIX = ".damaged"
NOT_DAMAGE = ("locked", "locking protocol", "busy", "full", "readonly", "unable to open", "disk I/O error")
"""Words of SQLite on a file that it cannot use now, which may be whole."""


class _DamageError(Exception):
    """The store's file is not as it was written."""


def mend(store: Path) -> None:
    """Make sure that a store and its journal are whole and say the same; only the one process that writes may call this.

    A store without a journal, as versions before 0.2 left it, is given one. A file that is no store of this version is left as it is.

    Raises:
        StoreError: The store is damaged and there is no journal, or a file cannot be read or written.
    """
    places, is_journal_whole = places_in(journal_of(store))
    try:
        _agree(store, places, is_journal_whole)
    except _DamageError as error:
        if not places:
            raise StoreError(_damage(store, str(error))) from None
        _make_again(store, places, str(error))
    except sqlite3.Error as error:
        raise StoreError(unusable(store, error)) from error


def _agree(store: Path, places: dict[Name, Place], is_journal_whole: bool) -> None:
    found = _rows(store) if store.exists() and store.stat().st_size else {}
    if found is None:
        return
    if any(name not in found or found[name].number < place.number for name, place in places.items()):
        raise _DamageError("commits are missing")
    elif found and (not is_journal_whole or _plain(found) != _plain(places)):
        with closing(_connected(store)) as connection:
            write_journal(journal_of(store), ((place.number, name, _body(connection, name)) for name, place in _in_order(found)))


def _plain(places: dict[Name, Place]) -> dict[Name, tuple[int, str]]:
    return {name: (place.number, place.seal) for name, place in places.items()}


def _in_order(places: dict[Name, Place]) -> list[tuple[Name, Place]]:
    return sorted(places.items(), key=lambda item: item[1].number)


def _connected(store: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(store, isolation_level=None)
    if shared_kind(store) is not None:
        # A log that another disk left is then read without a file in memory.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def _body(connection: sqlite3.Connection, name: Name) -> str:
    table, key = name
    return connection.execute(f"SELECT body FROM {table} WHERE {TABLES[table]} = ?", (key,)).fetchone()[0]


def _rows(store: Path) -> dict[Name, Place] | None:
    """Return the place of each name in a store, all whole; None where the file belongs to another version or program.

    Raises:
        _DamageError: It is not as it was written.
        StoreError: It cannot be used now.
    """
    try:
        with closing(_connected(store)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            num_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version != SCHEMA_NUMBER:
                # An empty one has lost its first page, or was never begun.
                return {} if version == num_tables == 0 else None
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _DamageError(str(verdict).partition("\n")[0])
            add_columns(connection)
            seal_what_is_not(connection)
            return {name: place for table in TABLES for name, place in _sealed(connection, table)}
    except sqlite3.Error as error:
        if any(words in str(error) for words in NOT_DAMAGE):
            raise StoreError(unusable(store, error)) from error
        raise _DamageError(str(error)) from None


def _sealed(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Name, Place]]:
    column, before = TABLES[table], 0
    order = "place" if table == "trials" else "number"
    for key, body, number, seal in connection.execute(f"SELECT {column}, body, number, seal FROM {table} ORDER BY {order}"):
        if not isinstance(body, str) or not isinstance(number, int) or seal != seal_of(number, (table, key), body) or number < before:
            raise _DamageError(f"{table[:-1]} {key} is not as it was written")
        before = number
        yield (table, key), Place(number, seal)


def add_columns(connection: sqlite3.Connection) -> None:
    """Give the tables of version 0.1 the columns of number and seal."""
    for table in TABLES:
        if not has_seals(connection, table):
            connection.executescript(
                f"BEGIN IMMEDIATE; ALTER TABLE {table} ADD COLUMN number INTEGER; ALTER TABLE {table} ADD COLUMN seal TEXT; COMMIT;"
            )


def has_seals(connection: sqlite3.Connection, table: str = "trials") -> bool:
    """Whether a table has the columns of number and seal."""
    return any(row[1] == "seal" for row in connection.execute(f"PRAGMA table_info({table})"))


def seal_what_is_not(connection: sqlite3.Connection) -> None:
    """Number and seal what version 0.1 wrote."""
    if not any(connection.execute(f"SELECT 1 FROM {table} WHERE seal IS NULL LIMIT 1").fetchone() for table in TABLES):
        return
    last = last_number(connection)
    connection.execute("BEGIN IMMEDIATE")
    for table, column in TABLES.items():
        order = "place" if table == "trials" else column
        for key, body in connection.execute(f"SELECT {column}, body FROM {table} WHERE seal IS NULL ORDER BY {order}").fetchall():
            last += 1
            sealed = (last, seal_of(last, (table, key), body if isinstance(body, str) else ""), key)
            connection.execute(f"UPDATE {table} SET number = ?, seal = ? WHERE {column} = ?", sealed)
    connection.execute("COMMIT")


def last_number(connection: sqlite3.Connection) -> int:
    """Return the number of the last commit, 0 before the first."""
    return max(connection.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone()[0] for table in TABLES)


def _make_again(store: Path, places: dict[Name, Place], reason: str) -> None:
    """Make a store anew of its journal and of what can still be read; what was there stays beside it under another name."""
    found = {name: place for name, place in _readable(store).items() if name not in places or place.number > places[name].number}
    kept = store.with_name(store.name + DAMAGED_SUFFIX)
    commits = [(place.number, name, body) for name, (place, body) in _bodies(store, places, found).items()]
    try:
        if store.exists():
            os.replace(store, kept)
    except OSError as error:
        raise StoreError(unwritable(store, error)) from error
    # Pages that wait in a log of the old file must not be written into the new one.
    for file in _beside(store):
        remove_file(file)
    try:
        write_atomic(store, lambda temporary: _write(temporary, sorted(commits)))
    except sqlite3.Error as error:
        raise StoreError(unusable(store, error)) from error
    write_journal(journal_of(store), sorted(commits))
    log.warning("%s was damaged (%s): it is made again of %s, and the old file kept as %s", store, reason, journal_of(store), kept.name)


def _readable(store: Path) -> dict[Name, Place]:
    """Return what of a damaged store is whole."""
    found: dict[Name, Place] = {}
    for table in TABLES if store.exists() else ():
        try:
            with closing(_connected(store)) as connection:
                found.update(_sealed(connection, table))
        except (sqlite3.Error, _DamageError):
            continue
    return found


def _bodies(store: Path, places: dict[Name, Place], found: dict[Name, Place]) -> dict[Name, tuple[Place, str]]:
    bodies: dict[Name, tuple[Place, str]] = {}
    with journal_of(store).open("rb") as file:
        for name, place in places.items():
            bodies[name] = (place, body_at(file, place))
    if found:
        with closing(_connected(store)) as connection:
            bodies.update({name: (place, _body(connection, name)) for name, place in found.items()})
    return bodies


def _write(path: Path, commits: list[tuple[int, Name, str]]) -> None:
    with closing(_connected(path)) as connection:
        # The file counts once it is renamed: it needs no log of its own.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.executescript(TABLES_SQL)
        connection.execute("BEGIN")
        for number, (table, key), body in commits:
            sealed = (key, body, number, seal_of(number, (table, key), body))
            connection.execute(f"INSERT INTO {table} ({TABLES[table]}, body, number, seal) VALUES (?, ?, ?, ?)", sealed)
        connection.execute("COMMIT")


def _beside(store: Path) -> list[Path]:
    return [store.with_name(store.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def remove_store(store: Path) -> None:
    """Remove a store with its journal, and what SQLite keeps beside it.

    Raises:
        StoreError: A file cannot be removed.
    """
    # The journal first: a store without one is whole, but a journal without a store is made one of.
    for file in (journal_of(store), store, *_beside(store)):
        remove_file(file)


def unusable(path: Path, error: sqlite3.Error) -> str:
    """Return the sentence on a store that SQLite cannot use."""
    reason = str(error)
    if "full" in reason:
        return f"{path} must have room to grow, but the disk is full: free some space and run again; finished work is kept."
    if "disk I/O" in reason:
        return f"{path} must be on a disk that takes it, but the disk may be full or broken ({reason}): free some space and run again."
    if "readonly" in reason or "unable to open" in reason:
        return f"{path} must be writable, got '{reason}': check the permissions of {path.parent}, or free some space if its disk is full."
    if "locking protocol" in reason:
        return f"{path} must be on a disk that locks files, got '{reason}': choose a directory on another disk with --out."
    if "locked" in reason:
        return f"{path} must have one writer, but another process is writing: wait for it to end, then run the same command again."
    if "not a database" in reason or "malformed" in reason:
        return _damage(path, f"or something else: {reason}")
    return f"{path} cannot be used: {reason}."


def remedy(store: Path) -> str:
    """Return what to do about a damaged store."""
    if journal_of(store).exists():
        return f"`triaxis run` with this run directory makes it again of {journal_of(store).name}"
    return "put a copy of the store back, or choose another run directory"


def _damage(store: Path, reason: str) -> str:
    return f"{store} must be a triaxis store, but the file is damaged ({reason}): {remedy(store)}."
