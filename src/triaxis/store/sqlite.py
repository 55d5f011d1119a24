"""The store on disk: one SQLite file, safe against a kill at any moment.

The write-ahead log lets `solve` and `status` read while a run writes; ``synchronous=FULL`` makes a commit outlive a
power cut. Bodies are JSON text, so that the file can be read with nothing but the sqlite3 shell. Each carries a seal, and each
commit is added to a journal beside the file, from which `triaxis.store.mending` makes a damaged one again.

The log needs a file that all processes map into memory, which a network file system cannot give. There the store keeps a
rollback journal, which needs nothing but locks: readers wait for a commit to end, and the other way round.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from triaxis.errors import StoreError
from triaxis.store.base import check_final
from triaxis.store.journal import TABLES, Journal, Name, journal_of, seal_of
from triaxis.store.memory import to_text
from triaxis.store.mending import SCHEMA_NUMBER, TABLES_SQL, add_columns, has_seals, last_number, mend, remedy, unusable
from triaxis.store.records import damaged, read_result
from triaxis.store.shared_disks import shared_kind
from triaxis.values import TrialResult

BUSY_SECONDS = 10.0

Check = Callable[[str, Any, str], None]
"""Called with a record's key, its plain data and the file they were read from; raises `StoreError` if they are damaged."""


def open_store(path: str | Path, read_only: bool = False, check: Check | None = None) -> SqliteStore:
    """Open a store file; a missing one is made, and a damaged one is made again of its journal, unless `read_only`.

    Args:
        path: The file.
        read_only: Write nothing.
        check: Looks at each record that is read, such as `triaxis.store.records.check_record`.

    Raises:
        StoreError: The file is missing (`read_only`), is no store, was written by another version, or cannot be written.
    """
    path = Path(path)
    if read_only and not path.exists():
        raise StoreError(f"{path} must be the store of a run, but there is no such file: make one with `triaxis run CONFIG`.")
    return SqliteStore(path, read_only, check)


class SqliteStore:
    """Keeps the trials and records of one run in a SQLite file; see `triaxis.store.base` for what it promises."""

    def __init__(self, path: Path, read_only: bool = False, check: Check | None = None) -> None:
        self._path, self._check = path, check
        self._journal = Journal(journal_of(path))
        if not read_only and path.parent.is_dir():
            mend(path)
        with self._told():
            # Autocommit: each statement is its own transaction, and durable when it returns.
            self._connection = sqlite3.connect(_address(path, read_only), uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            self._prepare(read_only)
        except BaseException:
            self._connection.close()
            raise

    def __reduce__(self) -> tuple[Any, tuple[Path, bool, Check | None]]:
        """Sent to another process, the store arrives there open for reading only: this process alone writes."""
        return open_store, (self._path, True, self._check)

    def _prepare(self, read_only: bool) -> None:
        is_shared = not read_only and shared_kind(self._path) is not None
        with self._told():
            if is_shared:
                # A log that another disk left is then read without the file in memory.
                self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            found = self._connection.execute("PRAGMA user_version").fetchone()[0]
            empty = not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if found != SCHEMA_NUMBER and not (empty and found == 0 and not read_only):
                raise StoreError(_of_another_version(self._path, found))
            if not read_only:
                # Extra: the folder is synced too, after the journal is gone.
                journal, sync = ("DELETE", "EXTRA") if is_shared else ("WAL", "FULL")
                self._connection.execute(f"PRAGMA journal_mode = {journal}")
                self._connection.execute(f"PRAGMA synchronous = {sync}")
                self._connection.execute("PRAGMA locking_mode = NORMAL")
                self._connection.executescript(TABLES_SQL)
                add_columns(self._connection)
            self._is_sealed = has_seals(self._connection)
            self._number = last_number(self._connection) if self._is_sealed else 0

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(unusable(self._path, error)) from error

    def put_trial(self, result: TrialResult) -> None:
        """Commit one result; see `Store`."""
        if not check_final(self.trial(result.trial_id), result):
            return
        self._put(("trials", result.trial_id), to_text(result.to_json()))

    def trial(self, trial_id: str) -> TrialResult | None:
        """Return one result, or None."""
        rows = self._rows("trials", "WHERE trial_id = ?", trial_id)
        return self._result(*rows[0]) if rows else None

    def trials(self) -> tuple[TrialResult, ...]:
        """Return all results in the order of commit."""
        return tuple(self._result(*row) for row in self._rows("trials", "ORDER BY place"))

    def _result(self, trial_id: str, body: Any) -> TrialResult:
        name = f"trial {trial_id} in {self._path}"
        return read_result(_plain(body, name), name)

    def put_record(self, key: str, plain: Any) -> None:
        """Commit plain JSON data under a key; see `Store`."""
        self._put(("records", key), to_text(plain))

    def _put(self, name: Name, body: str) -> None:
        table, key = name
        number = self._number + 1
        with self._told():
            self._connection.execute(
                f"INSERT OR REPLACE INTO {table} ({TABLES[table]}, body, number, seal) VALUES (?, ?, ?, ?)",
                (key, body, number, seal_of(number, name, body)),
            )
        self._number = number
        self._journal.add(number, name, body)

    def record(self, key: str) -> Any:
        """Return the plain data of a key, or None."""
        rows = self._rows("records", "WHERE key = ?", key)
        if not rows:
            return None
        plain = _plain(rows[0][1], f"record {key} in {self._path}")
        if self._check is not None:
            self._check(key, plain, str(self._path))
        return plain

    def _rows(self, table: str, rest: str, *arguments: str) -> list[tuple[str, Any]]:
        """Return keys and bodies.

        Raises:
            StoreError: SQLite cannot read them, or one is not as it was written.
        """
        seals = "number, seal" if self._is_sealed else "NULL, NULL"
        with self._told():
            rows = self._connection.execute(f"SELECT {TABLES[table]}, body, {seals} FROM {table} {rest}", arguments).fetchall()
        for key, body, number, seal in rows:
            # Version 0.1 wrote none.
            if seal is not None and (not isinstance(body, str) or seal != seal_of(number, (table, key), body)):
                raise StoreError(f"The {table[:-1]} {key} in {self._path} is damaged, as its seal shows: {remedy(self._path)}.")
        return [(key, body) for key, body, *_ in rows]

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._journal.close()
        with self._told():
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _plain(body: Any, name: str) -> Any:
    """Return the plain data of a JSON text.

    Raises:
        StoreError: It is none; `name` says in the sentence what was read and where.
    """
    try:
        return json.loads(body, parse_constant=_refuse)
    except (TypeError, ValueError, RecursionError) as error:
        raise damaged(name, f"it must be JSON: {error}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none")


def _of_another_version(path: Path, found: int) -> str:
    again = "; if you know that none did, move it away, and it is made anew from its journal" if journal_of(path).exists() else ""
    return f"{path} must be a triaxis store of schema {SCHEMA_NUMBER}, got schema {found}: another version wrote it{again}."


def _address(path: Path, read_only: bool) -> str:
    address = f"file:{quote(str(path.absolute()))}"
    if not read_only:
        return f"{address}?mode=rwc"
    # A reader of a write-ahead log must make a small shared file beside it; where the directory forbids that and no log
    # is pending, nobody is writing either, and the file can be read as it is.
    pending = path.with_name(f"{path.name}-wal").exists()
    return f"{address}?mode=ro" + ("" if pending or os.access(path.parent, os.W_OK) else "&immutable=1")
