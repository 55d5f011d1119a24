"""Any device, by a command: it gets a model as a file, and prints the milliseconds of one batch.

The command is split into words as a shell would do, and started without a shell. In each word ``{model}`` becomes the file's
path, ``{batch}`` the images of a call and ``{side}`` their side in pixels. The file is also the command's standard input, so
that a device behind ``ssh`` needs no copy of its own. What is printed is read by `triaxis.metrics.runtimes.answers`.

One reading is one process and may take seconds; so few are taken, and the command is expected to warm up and to repeat.
"""

from __future__ import annotations

import copy
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from triaxis.config.tree import DeviceConfig
from triaxis.errors import ConfigError, DeviceError, RefusedModelError
from triaxis.metrics.base import Shape
from triaxis.metrics.runtimes.answers import last_words, read_answer
from triaxis.metrics.runtimes.onnx import require_onnx, write_onnx
from triaxis.surgery.trace.inputs import for_export

PLACEHOLDERS = ("model", "batch", "side")
MAGNITUDE = 10.0
"""A reading this many times another one of the same model is not believed."""

_REFUSAL = re.compile(r"unsupported|not supported|not implemented|no importer|unknown op|no kernel|not registered", re.IGNORECASE)


class _CommandFailed(Exception):  # noqa: N818 - never leaves this module
    """One process gave no reading; the text says what was got instead."""


class CommandRuntime:
    """A device that a command reaches.

    Args:
        name: As budgets call it.
        settings: The command, and how patient to be with it.
    """

    is_slow = True

    def __init__(self, name: str, settings: DeviceConfig) -> None:
        self.name, self.settings = name, settings
        self.known_to_work: CommandReading | None = None

    @property
    def identity(self) -> str:
        """What decides a reading beside the model: kept with it, so that another command measures anew."""
        return f"{self.settings.command} {self.settings.format}"

    def require(self) -> None:
        """Make sure that the command can be started.

        Raises:
            ConfigError: It has no words, its program is not there, or a placeholder is unknown.
            MissingDependencyError: ONNX is asked for without the extra.
        """
        words = self.words()
        unknown = sorted(
            {f"{{{found}}}" for word in words for found in re.findall(r"\{(\w+)\}", word)} - {f"{{{p}}}" for p in PLACEHOLDERS}
        )
        if unknown:
            raise ConfigError(f"{self._setting} may hold {{model}}, {{batch}} and {{side}}, got {', '.join(unknown)}: correct the name.")
        if shutil.which(words[0]) is None:
            raise ConfigError(f"{self._setting} must begin with a program that can be run here, got {words[0]!r}: give its path.")
        if self.settings.format == "onnx":
            require_onnx()

    def words(self) -> list[str]:
        """Return the command's words.

        Raises:
            ConfigError: There are none, or a quotation mark is missing.
        """
        try:
            words = shlex.split(self.settings.command)
        except ValueError as error:
            raise ConfigError(f"{self._setting} must be written as for a shell, got {self.settings.command!r}: {error}.") from None
        if not words:
            raise ConfigError(f"{self._setting} must say what to run, got an empty text.")
        return words

    def prepare(self, model: nn.Module, input_shape: Shape, batch: int) -> CommandReading:
        """See `Runtime`. The file lives as long as what is returned."""
        folder = tempfile.TemporaryDirectory(prefix="triaxis-")
        path = Path(folder.name) / f"model.{self.settings.format}"
        plain = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
        if self.settings.format == "onnx":
            write_onnx(path, plain, input_shape)
        else:
            _write_pt2(path, plain, input_shape)
        values = {"model": str(path), "batch": str(batch), "side": str(input_shape[-1])}
        return CommandReading(self, [_filled(word, values) for word in self.words()], path, folder)

    @property
    def _setting(self) -> str:
        return "profile.command" if self.name == "command" else f"profile.devices.{self.name}.command"


class CommandReading:
    """The call that starts the command for one model and returns its milliseconds."""

    def __init__(self, runtime: CommandRuntime, words: list[str], path: Path, folder: tempfile.TemporaryDirectory[str]) -> None:
        self.runtime, self.words, self.path, self._folder = runtime, words, path, folder
        self.found: list[float] = []

    def __call__(self) -> float:
        """Return the milliseconds.

        Raises:
            RefusedModelError: The command fails for this model, and works for another one.
            DeviceError: It fails for that one too, or there is none yet.
        """
        try:
            ms = self.tried()
        except _CommandFailed as failure:
            raise self._error(str(failure)) from None
        self.found.append(ms)
        self.runtime.known_to_work = self
        return ms

    def tried(self) -> float:
        """Start the command until it gives a reading that can be, at most as often as the settings allow."""
        tries, problem = self.runtime.settings.tries, ""
        for number in range(tries):
            if number:
                time.sleep(self.runtime.settings.wait_s)
            try:
                return self._believed(self.once())
            except _CommandFailed as failure:
                problem = str(failure)
        raise _CommandFailed(f"{problem} ({tries} {'tries' if tries > 1 else 'try'})")

    def _believed(self, ms: float) -> float:
        if self.found:
            before = statistics.median(self.found)
            if not 1 / MAGNITUDE < ms / before < MAGNITUDE:
                raise _CommandFailed(f"it reads {ms:g} ms, and read {before:g} ms before of the same model")
        return ms

    def once(self) -> float:
        """Start one process and return what it measured."""
        limit = self.runtime.settings.time_limit_s
        with self.path.open("rb") as file:
            try:
                process = subprocess.Popen(
                    self.words,
                    stdin=file,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise _CommandFailed(f"it cannot be started: {error.strerror}") from None
            try:
                output, complaints = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                raise _CommandFailed(f"it had not ended after {limit:g} s") from None
            finally:
                _end(process)
        if process.returncode:
            raise _CommandFailed(f"it ended with code {process.returncode} and the words {_complaint(output, complaints)!r}")
        answer = read_answer(output)
        if answer is None:
            raise _CommandFailed(f"it printed no milliseconds on its last line, but {_complaint(output, complaints)!r}")
        return answer.ms

    def _error(self, problem: str) -> DeviceError | RefusedModelError:
        """Say whether the device or the model is at fault: a model that was measured before is tried again."""
        other, name = self.runtime.known_to_work, self.runtime.name
        if other is not None and other is not self:
            with suppress(_CommandFailed):
                other.tried()
                return RefusedModelError(
                    f"The device {name} must run every cut, but it refuses {self.path.name} of {self.path.stat().st_size} bytes: "
                    f"{problem}; it still runs another model."
                )
        return DeviceError(
            f"The command of the device {name} must print milliseconds, but {problem}: look after the device, "
            f"try `{shlex.join(self.words)}` by hand, and run the same command again; what was measured is kept."
        )


def _filled(word: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        word = word.replace(f"{{{key}}}", value)
    return word


def _complaint(output: str, complaints: str) -> str:
    """Return the line in which a program says what it does not support, or its last words."""
    lines = [line.strip() for line in (*complaints.splitlines(), *output.splitlines()) if _REFUSAL.search(line)]
    return (lines[0] if lines else last_words(complaints) or last_words(output))[:300]


def _end(process: subprocess.Popen[str]) -> None:
    """End a process with all that it started, where it still runs."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def _write_pt2(path: Path, model: nn.Module, input_shape: Shape) -> None:
    # Traced at batch 2: at 1, torch.export would freeze the batch.
    batch = torch.export.Dim("batch", min=1, max=65536)
    torch.export.save(torch.export.export(for_export(model), (torch.zeros(2, *input_shape),), dynamic_shapes=({0: batch},)), path)
