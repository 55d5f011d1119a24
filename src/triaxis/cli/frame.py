"""What all commands share: how an error leaves the program, and the progress bars."""

from __future__ import annotations

import json
import logging
from types import TracebackType
from typing import Any, Self

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from triaxis.cli.output import guarded_output
from triaxis.errors import ConfigError, TriaxisError
from triaxis.process.interrupt import heeding_signals
from triaxis.process.ranks import follows, num_launched
from triaxis.progress import Listener, Progress, Step

INTERRUPTED = 130

TOGETHER = ("run", "collect", "prune")
"""The commands that several processes, which torchrun starts, do together."""

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

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of a name.

        Raises:
            ConfigError: Several processes were started, and it is no work for them.
        """
        name, command, rest = super().resolve_command(ctx, args)
        if num_launched() > 1 and name not in TOGETHER:
            raise ConfigError(
                f"torchrun must start one of the commands that train, {', '.join(TOGETHER)}, got {name}: call `triaxis {name}` without it."
            )
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        # One of several processes speaks for all.
        out.quiet = err.quiet = follows()
        logger, shown = logging.getLogger("triaxis"), Warnings(logging.INFO)
        before = logger.level
        logger.addHandler(shown)
        logger.setLevel(min(before, logging.INFO) if before else logging.INFO)
        try:
            with heeding_signals():
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


class StageProgress(Progress):
    """What a command shows of its stages on standard error: bars on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        from triaxis.stages.listeners import Lines

        shown: Listener = Bars() if err.is_terminal else Lines(lambda line: err.print(line, markup=False))
        super().__init__(shown)
        self._shown = shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._shown.close()


class Bars:
    """One bar for each stage, with what happens and the time left; it stays, and is full when the stage ends without an error."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar: TaskID | None = None
        self._bars = RichProgress(
            TextColumn("{task.description:10}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[left]}"),
            TextColumn("[dim]{task.fields[note]}"),
            console=err,
        )
        self._bars.start()

    def hear(self, step: Step) -> None:
        """Move the stage's bar."""
        if step.event == "begin":
            self._bar = self._bars.add_task(step.stage, total=1.0, note="", left="")
        elif self._bar is not None:
            is_over = step.event in ("end", "error")
            left = "" if is_over else ", ".join(step.left)
            self._bars.update(self._bar, completed=step.share, note="" if is_over else escape(", ".join(step.details)), left=left)

    def close(self) -> None:
        """Leave the bars as they are."""
        self._bars.stop()


def print_json(plain: Any) -> None:
    """Print plain data for another program to read."""
    typer.echo(json.dumps(plain, indent=2, allow_nan=False))
