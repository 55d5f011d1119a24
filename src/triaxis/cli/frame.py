"""What all commands share: how an error leaves the program, and the progress bars."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from triaxis.cli.output import guarded_output
from triaxis.errors import TriaxisError
from triaxis.progress import Advance

INTERRUPTED = 130

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Warnings(logging.Handler):
    """Shows on standard error what the package warns of, and what it marks as told to the user; log.txt has it too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        if record.levelno >= logging.WARNING:
            err.print(f"[yellow]warning[/]: {escape(record.getMessage())}")
        elif getattr(record, "is_told", False):
            err.print(escape(record.getMessage()))


class Commands(TyperGroup):
    """Turns an expected error into one sentence and its exit code; anything else is a bug and keeps its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order in which they were added."""
        return list(self.commands)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the program, to the last character that it prints."""
        with guarded_output():
            return super().main(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        logger, shown = logging.getLogger("triaxis"), Warnings(logging.INFO)
        before = logger.level
        logger.addHandler(shown)
        logger.setLevel(min(before, logging.INFO) if before else logging.INFO)
        try:
            return super().invoke(ctx)
        except TriaxisError as error:
            err.print(f"[bold red]error[/]: {escape(str(error))}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            err.print("\nstopped: nothing is lost; run the same command to go on")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            logger.removeHandler(shown)
            logger.setLevel(before)


class StageProgress:
    """One bar with the time left for each stage; what `triaxis.progress.Progress` asks for."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description:10}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=err,
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Show a bar for one stage; it stays, and is full when the stage ends without an error."""
        bar = self._bars.add_task(name, total=1.0, note="")

        def advance(share: float, note: str) -> None:
            self._bars.update(bar, completed=share, note=escape(note))

        yield advance
        self._bars.update(bar, completed=1.0, note="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()


def print_json(plain: Any) -> None:
    """Print plain data for another program to read."""
    typer.echo(json.dumps(plain, indent=2, allow_nan=False))
