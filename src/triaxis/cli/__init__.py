"""The command line. Each command parses, calls the library and prints; `--help` of each shows an example."""

from __future__ import annotations

import os

import typer

from triaxis.cli import live, machine, models, stages, study
from triaxis.cli.frame import Commands

app = typer.Typer(
    cls=Commands,
    name="triaxis",
    help="Make a trained CNN as fast as you need: prune depth, width and input resolution together.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN, _STAGES, _MODELS = "The whole job", "One stage of a run", "Models"

app.command(rich_help_panel=_RUN)(stages.run)
app.command(rich_help_panel=_RUN)(models.init)
app.command(rich_help_panel=_RUN)(stages.plan)
app.command(rich_help_panel=_RUN)(stages.status)
app.command(rich_help_panel=_RUN)(live.open)
app.command(rich_help_panel=_STAGES)(stages.collect)
app.command(rich_help_panel=_STAGES)(stages.fit)
app.command(rich_help_panel=_STAGES)(stages.solve)
app.command(rich_help_panel=_STAGES)(stages.frontier)
app.command(rich_help_panel=_STAGES)(stages.prune)
app.command(rich_help_panel=_STAGES)(stages.report)
app.command(rich_help_panel=_MODELS)(models.inspect)
app.command(rich_help_panel=_MODELS)(models.export)
app.command(rich_help_panel=_MODELS)(models.predict)
app.command(rich_help_panel=_MODELS)(models.bench)
app.command(rich_help_panel=_MODELS)(models.push)
app.command(rich_help_panel=_MODELS)(machine.doctor)

app.add_typer(study.app, name="study", rich_help_panel="The paper's evidence")


def main() -> None:
    """Run the command line; the console script ``triaxis``."""
    wait_passively()
    app()


def wait_passively() -> None:
    """Let the maths library's threads sleep while they wait, unless the user chose how; must come before torch is imported.

    By default they spin, which costs a hundred times the time where another process holds the core of one of them. Numbers
    do not change by this.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & set(os.environ):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
