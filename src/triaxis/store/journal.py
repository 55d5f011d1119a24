"""The second copy of a store: a text file beside it, to which each commit is added as one sealed line.

    SEAL NUMBER TABLE "KEY"<tab>BODY

The seal is a digest of the rest, and the number counts the commits, so that a line that was damaged, cut off or outdated is
known as such. Nothing reads the file but `triaxis.store.mending`, where the store beside it is damaged or gone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from triaxis.errors import StoreError
from triaxis.store.files import unwritable, write_atomic

TABLES = {"trials": "trial_id", "records": "key"}
"""The tables of a store, each with the column of its keys."""

Name = tuple[str, str]
"""What is kept under one name: (table, key)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the latest body of a name stands: the number of its commit, its seal, and the byte of the file at which its line begins."""

    number: int
    seal: str
    offset: int = -1


def journal_of(store: Path) -> Path:
    """Return the journal's file, beside the store's."""
    return store.with_suffix(".journal")


def seal_of(number: int, name: Name, body: str) -> str:
    """Return 16 hexadecimal characters over all that a commit says."""
    return hashlib.sha256(_said(number, name, body).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _said(number: int, name: Name, body: str) -> str:
    return f"{number} {name[0]} {json.dumps(name[1])}\t{body}"


def line_of(number: int, name: Name, body: str) -> bytes:
    """Return a commit's line, with its end."""
    return f"{seal_of(number, name, body)} {_said(number, name, body)}\n".encode("utf-8", "surrogatepass")


def read_line(line: bytes) -> tuple[int, Name, str] | None:
    """Return number, name and body of a line, or None where it is not as it was written."""
    try:
        seal, number, table, rest = line.decode("utf-8", "surrogatepass").rstrip("\n").split(" ", 3)
        quoted, _, body = rest.partition("\t")
        found = int(number), (table, json.loads(quoted)), body
    except (ValueError, RecursionError):
        return None
    is_whole = line.endswith(b"\n") and table in TABLES and seal == seal_of(*found)
    return found if is_whole else None


def places_in(journal: Path) -> tuple[dict[Name, Place], bool]:
    """Return the latest place of each name, and whether the file holds nothing damaged and little that is outdated.

    Raises:
        StoreError: The file cannot be read.
    """
    places: dict[Name, Place] = {}
    offset, num_lines, num_bad = 0, 0, 0
    try:
        with journal.open("rb") as file:
            for line in file:
                found = read_line(line)
                if found is None:
                    num_bad += 1
                elif found[0] >= getattr(places.get(found[1]), "number", 0):
                    places[found[1]] = Place(found[0], line[:16].decode(), offset)
                offset, num_lines = offset + len(line), num_lines + 1
    except FileNotFoundError:
        return {}, False
    except OSError as error:
        raise StoreError(f"{journal} must be readable, got '{error.strerror}': check its permissions, or remove it.") from error
    return places, not num_bad and num_lines <= 100 + 2 * len(places)


def body_at(file: IO[bytes], place: Place) -> str:
    """Return the body of a line that was read before."""
    file.seek(place.offset)
    found = read_line(file.readline())
    assert found is not None
    return found[2]


def write_journal(journal: Path, commits: Iterable[tuple[int, Name, str]]) -> None:
    """Write a journal anew, atomically.

    Raises:
        StoreError: The disk is full, or the place cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for commit in commits:
                file.write(line_of(*commit))

    write_atomic(journal, write)


class Journal:
    """Adds lines to a journal, each durable when `add` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def add(self, number: int, name: Name, body: str) -> None:
        """Add one commit.

        Raises:
            StoreError: The disk is full, or the file cannot be written.
        """
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            before = os.fstat(self._file.fileno()).st_size
            try:
                self._write(line_of(number, name, body))
            except OSError:
                # Half a line would spoil the next one too.
                with suppress(OSError):
                    os.ftruncate(self._file.fileno(), before)
                raise
        except OSError as error:
            raise StoreError(unwritable(self._path, error)) from error

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        while line:
            line = line[self._file.write(line) or 0 :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
