"""Who hears how far a run is: plain lines, `progress.json`, `events.jsonl`, TensorBoard, and the user's own listeners.

`watched` puts the ones of a run directory together; the command line adds its bars, or lines off a terminal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from triaxis.errors import MissingDependencyError, StoreError
from triaxis.plugins import find_part
from triaxis.process.mark import mark_of
from triaxis.progress import Clock, Listener, Progress, Step
from triaxis.store.directory import RunDirectory
from triaxis.store.files import TEMPORARY_SUFFIX, read_json

if TYPE_CHECKING:
    from triaxis.config import Config

log = logging.getLogger(__name__)

LINE_S = 30.0
"""Time between two lines on the same work."""

SHORT_S = 1.0
"""No two lines, and no two files, within this time, but for what is said once: a result, the end of a stage."""

QUIET_S = 120.0
"""A process on another machine that wrote nothing for so long is taken to be gone."""

LOOK_S = 3.0
"""How long a look at a process on another machine may take, where the clocks of the two disagree."""


@contextmanager
def watched(run: RunDirectory, config: Config, progress: Progress | None) -> Iterator[Progress]:
    """Let a run's own listeners hear within the context: its files, and those that the configuration names.

    Args:
        run: Held for writing.
        config: Its `progress` names listeners.
        progress: What the caller listens with, if anything.

    Raises:
        ConfigError: There is no listener of a name, or it cannot be imported.
        MissingDependencyError: It needs a package that is not there.
    """
    own = [_listener(name, run, config) for name in config.progress]
    files: list[Listener] = [Lines(log.info), ProgressFile(run.progress_file), EventLog(run.events_file)]
    with (progress or Progress()).joined_by(*files, *(listener for listener in own if listener)) as joined:
        yield joined


def _listener(name: str, run: RunDirectory, config: Config) -> Listener | None:
    """Make the listener that the configuration names; one that cannot begin is warned of, and left out."""
    make: Callable[[Path, dict[str, Any]], Listener] = find_part("listener", name, {"tensorboard": tensorboard}, setting="progress")
    try:
        return make(run.path, config.to_plain())
    except MissingDependencyError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever a listener does, the run goes on)
        log.warning("%s is told of no progress, because it raised %s: %s", name, type(error).__name__, str(error).partition("\n")[0])
        return None


class Lines:
    """Says a run as plain lines, few enough for a log.

    A line comes with the first word of a stage, the first and the last epoch of a training, each result and each stage's
    end; else one every 30 s.
    """

    def __init__(self, write: Callable[[str], object], clock: Clock = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._last = -float("inf")
        self._said = ""

    def hear(self, step: Step) -> None:
        """Write a line if one is due."""
        now = self._clock()
        if not self._is_due(step, now - self._last):
            return
        self._last, self._said = now, step.stage
        self._write(str(step))

    def _is_due(self, step: Step, gap: float) -> bool:
        if step.event in ("end", "error", "result"):
            return True
        if step.event == "begin":
            return False
        is_turning = step.event == "epoch" and step.epoch in (1, step.num_epochs)
        return gap >= (SHORT_S if is_turning or self._said != step.stage else LINE_S)

    def close(self) -> None:
        """Nothing is left to say."""


class ProgressFile:
    """Keeps one small JSON file that says where the run is; it is replaced whole, and gone when the run is over.

    Unlike the run's other files it is not synced: after a power cut nobody asks where the run was.
    """

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        self._last = -float("inf")

    def hear(self, step: Step) -> None:
        """Replace the file, at most once a second unless something began or ended."""
        now = self._clock()
        if step.event in ("step", "epoch") and now - self._last < SHORT_S:
            return
        self._last = now
        who = {"pid": os.getpid(), "mark": mark_of(os.getpid()), "host": platform.node(), "time": time.time()}
        self._temporary.write_text(json.dumps({"schema": 1, **step.to_json(), **who}, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(self._temporary, self._path)

    def close(self) -> None:
        """Remove the file: nothing is under way any more."""
        for path in (self._temporary, self._path):
            path.unlink(missing_ok=True)


def read_progress(run: RunDirectory, wait: Callable[[float], object] = time.sleep, clock: Clock = time.monotonic) -> dict[str, Any] | None:
    """Return what `progress.json` says, with `is_running`: whether the process that wrote it is still there. None if there is none.

    Clocks of two machines need not agree, and may be set: of a process on another machine it is watched whether it writes, from
    one call to the next. A first call whose clock says nothing sensible waits for `LOOK_S` seconds to see it.
    """
    found = _progress(run)
    if found is None:
        return None
    if found["host"] == platform.node():
        return {**found, "is_running": _is_alive(found)}
    is_heard = _is_heard(run, found, clock())
    if is_heard is None:
        wait(LOOK_S)
        later = _progress(run)
        if later is None:
            return None
        is_heard, found = later != found, later
        _is_heard(run, later, clock())
    return {**found, "is_running": is_heard}


_looks: dict[Path, tuple[dict[str, Any], float, bool]] = {}
"""What was read last of a run's progress, when it was first seen so, and whether it had been other before."""


def _is_heard(run: RunDirectory, found: dict[str, Any], now: float) -> bool | None:
    """Return whether the process of another machine still writes, or None if that cannot be told yet."""
    place = run.progress_file.resolve()
    before, since, has_moved = _looks.get(place, (found, now, False))
    if before != found:
        since, has_moved = now, True
    _looks[place] = (found, since, has_moved)
    if has_moved or now - since >= QUIET_S:
        return now - since < QUIET_S
    age = time.time() - float(found["time"])
    return True if 0 <= age < QUIET_S else None


def _progress(run: RunDirectory) -> dict[str, Any] | None:
    with contextlib.suppress(StoreError, KeyError, TypeError, ValueError):
        found = read_json(run.progress_file)
        Step.from_json(found)
        return {**found, "pid": int(found["pid"]), "host": str(found["host"]), "time": float(found["time"])}
    return None


def _is_alive(found: dict[str, Any]) -> bool:
    pid, written = found["pid"], found["time"]
    if "mark" in found:
        return found["mark"] is not None and mark_of(pid) == found["mark"]
    import psutil

    try:
        process = psutil.Process(pid)
        # Version 0.1 wrote no mark. A process that is younger than the file only has the same number.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written + SHORT_S
    except (psutil.Error, ValueError):
        return False


class EventLog:
    """Appends to a file one JSON object for each event, with the time in seconds since 1970, and one every 30 s between them."""

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._file: IO[str] | None = None
        self._last = -float("inf")

    def hear(self, step: Step) -> None:
        """Append a line if it is an event, or if none came for a while."""
        now = self._clock()
        if step.event == "step" and now - self._last < LINE_S:
            return
        self._last = now
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
        said = {key: item for key, item in step.to_json().items() if item not in (None, "", ())}
        self._file.write(json.dumps({"time": time.time(), **said}, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def tensorboard(run_dir: Path, config: dict[str, Any]) -> Listener:
    """Return a listener that draws into the run directory's folder ``tensorboard``.

    Raises:
        MissingDependencyError: The package tensorboard is not there.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            "progress: tensorboard needs the package tensorboard: install triaxis[tensorboard], or leave it out."
        ) from None
    return TensorBoard(SummaryWriter(str(run_dir / "tensorboard")))


class TensorBoard:
    """Draws loss and images per second of each training over its epochs, and val accuracy over the trials."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def hear(self, step: Step) -> None:
        """Add a point to each curve that the event belongs to."""
        work = f"trial {step.trial}" if step.trial is not None else step.stage
        if step.event == "epoch":
            for name, number in (("loss", step.loss), ("images per second", step.images_per_second)):
                if number is not None:
                    self._writer.add_scalar(f"{work}/{name}", number, step.epoch)
        elif step.event == "result" and step.val_accuracy is not None:
            self._writer.add_scalar(f"{step.stage}/val {step.score}", step.val_accuracy, step.trial or 0)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
