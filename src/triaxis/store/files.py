"""Files that are either whole or not there: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from triaxis.errors import StoreError

TEMPORARY_SUFFIX = ".tmp"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: str | Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary file, then put it in place of `path`, durably.

    A process killed at any moment leaves the old file or the new one, and perhaps a temporary one that
    `remove_temporary` clears.

    Args:
        path: The file to replace; its directory is made where it is missing.
        write: Gets the temporary path and leaves a complete, closed file there.

    Returns:
        `path`.

    Raises:
        StoreError: The disk is full, or the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary, os.O_RDWR)
        os.replace(temporary, path)
        _sync(path.parent, os.O_RDONLY)
    except (OSError, SafetensorError) as error:
        raise StoreError(unwritable(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file atomically; see `write_atomic`."""
    return write_atomic(path, lambda temporary: _write_and_close(temporary, text))


def write_json(path: str | Path, plain: Any) -> Path:
    """Write plain data as an indented JSON file, atomically; see `write_atomic`.

    Raises:
        StoreError: The data are not plain JSON, or the place cannot be written.
    """
    try:
        text = json.dumps(plain, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path} must hold plain JSON data, got something else: {error}.") from None
    return write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Return the plain data of a JSON file.

    Raises:
        StoreError: The file is missing or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path} must be a JSON file that triaxis wrote, got '{error.strerror}': check the path.") from None
    except ValueError as error:
        raise StoreError(f"{path} must be a JSON file that triaxis wrote, but it is damaged: {error}.") from None


def remove_file(path: Path) -> None:
    """Remove a file if it is there.

    Raises:
        StoreError: It cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(unwritable(path, error)) from error


def make_folder(path: Path) -> None:
    """Make a folder, and those that it is in, where they are missing.

    Raises:
        StoreError: The disk is full, or the place cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(unwritable(path, error)) from error


def remove_temporary(directory: str | Path, names: str) -> list[Path]:
    """Remove what writers of certain files that were killed left behind; return what was removed.

    Only the holder of the run's lock may call this, since another writer's temporary files look the same.

    Args:
        directory: One folder; those in it are not looked at, and it need not be there.
        names: Regular expression that matches the whole names of the files that are written here, and no others.

    Raises:
        StoreError: The folder cannot be read, or a file cannot be removed.
    """
    # torch.export insists on a suffix of its own after ours, and safetensors writes under a drawn name of its own first.
    own = re.compile(rf"\.(?:{names})\.\d+{re.escape(TEMPORARY_SUFFIX)}(?:\.pt2)?" + (r"|\.tmp\w{6}" if "safetensors" in names else ""))
    try:
        entries = list(Path(directory).iterdir()) if Path(directory).is_dir() else []
        stale = [path for path in entries if own.fullmatch(path.name) and path.is_file()]
        for path in stale:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{directory} must be writable, got '{error.strerror}': check its permissions.") from error
    return stale


def _write_and_close(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError | SafetensorError) -> str:
    """Return the sentence on a file that could not be written."""
    # safetensors wraps an operating-system error in its own class and keeps only the text.
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) in FULL_DISK or "No space left" in reason:
        return f"{path} must have room, but the disk is full: free some space and run the same command again; finished work is kept."
    return f"{path} must be writable, got '{reason}': check the permissions of {path.parent}."
