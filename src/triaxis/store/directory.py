"""The run directory: where everything that belongs to one run lies, and who may write there.

    RUN/
      config.yaml       the configuration, all defaults written out
      store.sqlite      trials and records
      store.journal     the same, one line for each commit: a damaged store is made again of it
      checkpoints/      weights, one safetensors file each
      summary.json      the numbers of the result
      report.html       the page
      compressed/       the model that is handed over
      log.txt           what happened, with times
      events.jsonl      how far the run was, one JSON object a line
      progress.json     how far it is; there while a process works on it
      .lock             held by the one process that writes

Every file is replaced atomically, so that a process killed at any moment leaves a directory on which the same command
goes on. A directory that holds something else is refused before anything is written, and nothing but the files above is
ever removed.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from triaxis.errors import ExperimentMismatchError, StoreError, StoreLockedError
from triaxis.store import SqliteStore, open_store
from triaxis.store.files import FULL_DISK, remove_temporary, unwritable, write_json, write_text
from triaxis.store.journal import journal_of
from triaxis.store.mending import remove_store
from triaxis.store.records import check_record

if TYPE_CHECKING:
    from triaxis.config import Config

# What may change on an old run: it decides how fast or in which files, never what the numbers are.
FREE_KEYS = (
    "export.formats",
    "collect.executor",
    "collect.workers",
    "collect.cluster",
    "data.workers",
    "data.memory",
    "data.download",
    "progress",
    "save_minutes",
)

# The names that are written in each folder, as regular expressions: only their temporary files may be removed.
CHECKPOINT_NAMES = r"(?:base|elastic|(?:final-)?[0-9a-f]{16})\.(?:safetensors|resume)"
COMPRESSED_NAMES = r"plan\.json|model(?:_from_pixels|_int8)?\.(?:safetensors|pt2|onnx)"

_held: set[Path] = set()


class RunDirectory:
    """The names of everything in a run directory; making one touches no file."""

    KIND: ClassVar[str] = "run"
    FILES: ClassVar[tuple[str, ...]] = (
        "config.yaml",
        "store.sqlite",
        "store.journal",
        "store.sqlite.damaged",
        "summary.json",
        "report.html",
        "log.txt",
        "events.jsonl",
        "progress.json",
        ".lock",
    )
    FOLDERS: ClassVar[dict[str, str]] = {"checkpoints": CHECKPOINT_NAMES, "compressed": COMPRESSED_NAMES}

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.store_file = self.path / "store.sqlite"
        self.checkpoints = self.path / "checkpoints"
        self.summary_file = self.path / "summary.json"
        self.report_file = self.path / "report.html"
        self.compressed = self.path / "compressed"
        self.log_file = self.path / "log.txt"
        self.events_file = self.path / "events.jsonl"
        self.progress_file = self.path / "progress.json"
        self.lock_file = self.path / ".lock"

    def checkpoint(self, name: str) -> Path:
        """Return the file of one checkpoint, for example of a trial id or ``base``."""
        return self.checkpoints / f"{name}.safetensors"

    def config(self) -> Config:
        """Return the configuration the run was made with.

        Raises:
            StoreError: The directory holds no run.
        """
        # Imported here, so that `triaxis solve` does not wait for the tree of settings that it has no use for.
        from triaxis.config import load_config

        self.check()
        return load_config(self.config_file)

    @property
    def holds_run(self) -> bool:
        """Whether a run was begun here: its configuration, which is the first of its files, and its store or the copy of it are there."""
        is_store_there = os.path.isfile(self.store_file) or os.path.isfile(journal_of(self.store_file))
        return os.path.isfile(self.path / self.FILES[0]) and is_store_there

    def check(self) -> None:
        """Make sure that the directory holds a run.

        Raises:
            StoreError: It does not.
        """
        if not self.config_file.exists():
            raise StoreError(f"{self.path} must be a run directory, but has no config.yaml: make one with `triaxis run CONFIG`.")

    @contextmanager
    def read(self) -> Iterator[SqliteStore]:
        """Open the store for reading only; works while another process writes.

        Raises:
            StoreError: The directory holds no run.
        """
        self.check()
        with open_store(self.store_file, read_only=True, check=check_record) as store:
            yield store

    @contextmanager
    def open(self, config: Config | None = None) -> Iterator[SqliteStore]:
        """Hold the directory for writing and open its store; it is made where it is missing and `config` is given.

        Args:
            config: What the caller is about to run; None takes the run's own.

        Raises:
            StoreLockedError: Another process holds the directory.
            ExperimentMismatchError: The run was made with another configuration.
            StoreError: The directory cannot be written, holds something else, or holds no run and `config` is None.
        """
        if config is None:
            config = self.config()
        with self._writing():
            self._settle(config)
            with open_store(self.store_file, check=check_record) as store:
                store.put_record("config", config.to_plain())
                yield store

    def write_json(self, name: str, plain: Any) -> Path:
        """Write plain data to a JSON file of the run, atomically; `name` is relative to the run."""
        return write_json(self.path / name, plain)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the directory, which is made where it is missing, as the one that writes, and clear what a killed writer left.

        Raises:
            StoreLockedError: Another process holds the directory.
            StoreError: It cannot be written, or holds something else than a run.
        """
        self._refuse_others()
        self._make()
        with self._locked(), self._logged():
            remove_temporary(self.path, "|".join(map(re.escape, self.FILES)))
            for name, own in self.FOLDERS.items():
                remove_temporary(self.path / name, own)
            yield

    def _refuse_others(self) -> None:
        """Make sure that nothing of anybody else's can be overwritten here: the directory is new, empty, or this kind's."""
        wrong = [(name, "file", "folder") for name in self.FILES if os.path.isdir(self.path / name)]
        wrong += [(name, "folder", "file") for name in self.FOLDERS if os.path.isfile(self.path / name)]
        for name, kind, found in wrong:
            place = self.path / name
            raise StoreError(f"{place} must be a {kind}, but a {found} is in its place: move it, or choose another directory with --out.")
        foreign = self._foreign()
        if foreign and not self.holds_run:
            raise StoreError(
                f"{self.path} must be empty or hold a {self.KIND} of triaxis, but it holds something else, such as {foreign[0]}: "
                "choose another directory with --out."
            )

    def _foreign(self) -> list[str]:
        """Return the names of what a process that was killed before its store was made cannot have left here."""
        if not os.path.isdir(self.path):
            return []
        try:
            names = sorted(os.listdir(self.path))
            is_empty = not os.path.isdir(self.checkpoints) or not os.listdir(self.checkpoints)
        except OSError as error:
            raise StoreError(unwritable(self.path, error)) from None
        # The folder of checkpoints is made first, then the lock, then the rest.
        early = ["checkpoints"] if is_empty else []
        if self.lock_file.name in names:
            early += [self.lock_file.name, self.log_file.name, self.FILES[0]]
            early += [name for name in names if re.fullmatch(r"store\.sqlite(-\w+|\.damaged)?|store\.journal|\.\w+\.yaml\.\d+\.tmp", name)]
        return [name for name in names if name not in early]

    def _make(self) -> None:
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(_unwritable_sentence(self.path, error)) from None

    def _settle(self, config: Config) -> None:
        """Write config.yaml; once anything is trained, check that it is the same in all that decides the numbers."""
        from triaxis.config import config_diff, load_config

        if self.config_file.exists():
            old = load_config(self.config_file)
            differing = [line for line in config_diff(old, config) if not line.startswith(FREE_KEYS)]
            if differing:
                if self._is_begun():
                    raise ExperimentMismatchError(mismatch_sentence(self.path, differing))
                # Nothing was trained yet: a mistake that was found on the way may be mended in place.
                remove_store(self.store_file)
            if old == config:
                return
        write_text(self.config_file, config.to_yaml())

    def _is_begun(self) -> bool:
        if any(self.checkpoints.iterdir()):
            return True
        with open_store(self.store_file) as store:
            return bool(store.trials()) or store.record("base") is not None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        place = self.path.resolve()
        if place in _held:
            raise StoreLockedError(_locked_sentence(self.path, os.getpid()))
        with self._lock_stream() as descriptor:
            _held.add(place)
            try:
                # Who holds it is only said; the lock itself is the kernel's, and needs no room on a full disk.
                with suppress(OSError):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()} on {platform.node()}\n".encode(), 0)
                yield
            finally:
                _held.discard(place)

    @contextmanager
    def _lock_stream(self) -> Iterator[int]:
        # fcntl is not on Windows, where everything but writing a run still imports.
        import fcntl

        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(_unwritable_sentence(self.path, error)) from None
        try:
            # A record lock, unlike flock, is not inherited by worker processes that outlive a killed driver.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                os.close(descriptor)
                raise StoreError(
                    f"The run directory {self.path} must be on a disk that locks files, got '{error.strerror}': mount it with locks, or "
                    "choose a directory on another disk with --out."
                ) from None
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise StoreLockedError(_locked_sentence(self.path, holder or "unknown")) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Copy what the package logs into log.txt."""
        logger = logging.getLogger("triaxis")
        try:
            handler = _LogFile(self.log_file, encoding="utf-8")
        except OSError as error:
            raise StoreError(unwritable(self.log_file, error)) from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(min(before, logging.INFO) if before else logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
            # Each line was flushed as it came; what a full disk refused then, it refuses again.
            with suppress(OSError):
                handler.close()


class _LogFile(logging.FileHandler):
    """log.txt; a disk that does not take a line stops the run with the same sentence as for any other file."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is the base class's)
        """Raise what stopped the line from being written."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise StoreError(unwritable(self.path, error)) from error
        super().handleError(record)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.baseFilename)


def mismatch_sentence(path: Path, differing: list[str]) -> str:
    """Return why a changed configuration is refused, with the differing keys and what to do."""
    lines = "\n  ".join(differing)
    place = shlex.quote(str(path))
    hint = f" A new budget needs no new run: `triaxis prune {place} --budget ...` makes that model from the trials already there."
    budget_only = all(line.startswith("budget:") for line in differing)
    return (
        f"The run in {path} was made with another configuration; it differs in\n  {lines}\n"
        f"Choose another directory with --out, or put these settings back.{hint if budget_only else ''}"
    )


def _unwritable_sentence(path: Path, error: OSError) -> str:
    if error.errno in FULL_DISK:
        return unwritable(path, error)
    return f"The run directory {path} must be writable, got '{error.strerror}': choose another with --out."


def _locked_sentence(path: Path, holder: int | str) -> str:
    return (
        f"A run directory has one writer at a time, but process {holder} is working on {path}: wait for it, or choose another with --out."
    )
