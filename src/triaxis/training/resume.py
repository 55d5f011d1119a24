"""The state of a training between two epochs, on disk: what a process that was killed goes on from.

The file is the zip archive of `torch.save`, which keeps a CRC-32 of each entry; torch itself does not compare them. A
damaged file costs the epochs that are in it and no more: it is removed, and the training starts again.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from triaxis.errors import StoreError
from triaxis.store.files import remove_file, write_atomic

log = logging.getLogger(__name__)


def write_resume(path: Path, state: dict[str, Any]) -> None:
    """Put a state in place of the one before, which stays until the new one is complete and durable.

    Raises:
        StoreError: The disk is full, or the place cannot be written.
    """
    write_atomic(path, lambda temporary: _write(temporary, state))


def _write(path: Path, state: dict[str, Any]) -> None:
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        # torch puts an error of its own in place of the operating system's.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def read_resume(path: Path) -> dict[str, Any] | None:
    """Return the state in a file; None if there is none, or if it was damaged and is removed now.

    Raises:
        StoreError: The file cannot be opened, or not be removed.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} must be readable, got '{error.strerror}': check its permissions, or remove it.") from error
    with file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001  (damaged bytes make the readers raise nearly anything)
            discard_resume(path, error)
            return None


def discard_resume(path: Path, reason: Exception) -> None:
    """Warn that a saved state cannot be used, and remove it.

    Raises:
        StoreError: It cannot be removed.
    """
    words = " ".join(str(reason).split())[:200]
    log.warning("%s cannot be used (%s): it is removed, and this training starts again from its first epoch", path, words)
    remove_resume(path)


def remove_resume(path: Path) -> None:
    """Remove the file if it is there.

    Raises:
        StoreError: It cannot be removed.
    """
    remove_file(path)
