"""The store on disk: one SQLite file, safe against a kill at any moment.

The write-ahead log lets `solve` and `status` read while a run writes; ``synchronous=FULL`` makes a commit outlive a
power cut. Bodies are JSON text, so that the file can be read with nothing but the sqlite3 shell.

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
from triaxis.store.memory import to_text
from triaxis.store.records import damaged, read_result
from triaxis.store.shared_disks import shared_kind
from triaxis.values import TrialResult

SCHEMA_NUMBER = 1
BUSY_SECONDS = 10.0

_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS trials (place INTEGER PRIMARY KEY AUTOINCREMENT, trial_id TEXT UNIQUE NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_NUMBER};
COMMIT;
"""


Check = Callable[[str, Any, str], None]
"""Called with a record's key, its plain data and the file they were read from; raises `StoreError` if they are damaged."""


def open_store(path: str | Path, read_only: bool = False, check: Check | None = None) -> SqliteStore:
    """Open a store file; a missing one is made, unless `read_only`.

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
                raise StoreError(
                    f"{self._path} must be a triaxis store of schema {SCHEMA_NUMBER}, got schema {found}: another version wrote it."
                )
            if not read_only:
                # Extra: the folder is synced too, after the journal is gone.
                journal, sync = ("DELETE", "EXTRA") if is_shared else ("WAL", "FULL")
                self._connection.execute(f"PRAGMA journal_mode = {journal}")
                self._connection.execute(f"PRAGMA synchronous = {sync}")
                self._connection.execute("PRAGMA locking_mode = NORMAL")
                self._connection.executescript(_TABLES)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(_sentence(self._path, error)) from error

    def put_trial(self, result: TrialResult) -> None:
        """Commit one result; see `Store`."""
        if not check_final(self.trial(result.trial_id), result):
            return
        body = to_text(result.to_json())
        with self._told():
            self._connection.execute("INSERT OR REPLACE INTO trials (trial_id, body) VALUES (?, ?)", (result.trial_id, body))

    def trial(self, trial_id: str) -> TrialResult | None:
        """Return one result, or None."""
        rows = self._rows("SELECT trial_id, body FROM trials WHERE trial_id = ?", trial_id)
        return self._result(*rows[0]) if rows else None

    def trials(self) -> tuple[TrialResult, ...]:
        """Return all results in the order of commit."""
        return tuple(self._result(*row) for row in self._rows("SELECT trial_id, body FROM trials ORDER BY place"))

    def _result(self, trial_id: str, body: Any) -> TrialResult:
        name = f"trial {trial_id} in {self._path}"
        return read_result(_plain(body, name), name)

    def put_record(self, key: str, plain: Any) -> None:
        """Commit plain JSON data under a key; see `Store`."""
        body = to_text(plain)
        with self._told():
            self._connection.execute("INSERT OR REPLACE INTO records (key, body) VALUES (?, ?)", (key, body))

    def record(self, key: str) -> Any:
        """Return the plain data of a key, or None."""
        rows = self._rows("SELECT body FROM records WHERE key = ?", key)
        if not rows:
            return None
        plain = _plain(rows[0][0], f"record {key} in {self._path}")
        if self._check is not None:
            self._check(key, plain, str(self._path))
        return plain

    def _rows(self, query: str, *arguments: str) -> list[Any]:
        with self._told():
            return self._connection.execute(query, arguments).fetchall()

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
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


def _address(path: Path, read_only: bool) -> str:
    address = f"file:{quote(str(path.absolute()))}"
    if not read_only:
        return f"{address}?mode=rwc"
    # A reader of a write-ahead log must make a small shared file beside it; where the directory forbids that and no log
    # is pending, nobody is writing either, and the file can be read as it is.
    pending = path.with_name(f"{path.name}-wal").exists()
    return f"{address}?mode=ro" + ("" if pending or os.access(path.parent, os.W_OK) else "&immutable=1")


def _sentence(path: Path, error: sqlite3.Error) -> str:
    reason = str(error)
    if "full" in reason:
        return f"{path} must have room to grow, but the disk is full: free some space and run again; finished work is kept."
    if "readonly" in reason or "unable to open" in reason:
        return f"{path} must be writable, got '{reason}': check the permissions of {path.parent}."
    if "locking protocol" in reason:
        return f"{path} must be on a disk that locks files, got '{reason}': choose a directory on another disk with --out."
    if "locked" in reason:
        return f"{path} must have one writer, but another process is writing: wait for it to end, then run the same command again."
    if "not a database" in reason or "malformed" in reason:
        return f"{path} must be a triaxis store, but the file is damaged or something else ({reason}): choose another run directory."
    return f"{path} cannot be used: {reason}."
