"""What happens when nobody takes what the program prints: a closed pipe, a full disk behind ``>``."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

NO_READER = 141
"""What a shell gives for a program that wrote into a pipe which nobody reads any more, as in ``triaxis status RUN | head -1``."""

NO_OUTPUT = 74
"""Input or output error, by the convention of sysexits.h."""


class OutputError(OSError):
    """A standard stream did not take what was printed. It has no `errno` of its own, by which others would act on it first."""

    def __init__(self, stream: TextIO, reason: OSError) -> None:
        super().__init__(f"standard output cannot be written: {reason.strerror}")
        self.stream, self.reason = stream, reason


class Output:
    """A standard stream that tells its own failures from those of every other file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Print a text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            raise OutputError(self._stream, error) from error

    def flush(self) -> None:
        """Hand on what was printed."""
        try:
            self._stream.flush()
        except OSError as error:
            raise OutputError(self._stream, error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_output() -> Iterator[None]:
    """End the program, if a standard stream fails: in silence where its reader has left, else with one sentence."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and Output(stream) for stream in before)
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OutputError as error:
        raise SystemExit(_leave(error)) from None
    finally:
        sys.stdout, sys.stderr = before


def _leave(error: OutputError) -> int:
    """Say what failed, if that can be said and is not usual, and return the exit code."""
    # What still waits to be printed would fail once more when the interpreter ends.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), error.stream.fileno())
    if error.reason.errno == errno.EPIPE:
        return NO_READER
    reason = f"error: What is printed must go somewhere, got '{error.reason.strerror}': send standard output to another place."
    with suppress(OSError):
        print(reason, file=sys.__stderr__, flush=True)
    return NO_OUTPUT
