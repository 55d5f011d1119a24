"""`triaxis study grid`: the paper's table on anyone's own images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from triaxis.cli.frame import StageProgress, err, out, print_json


def grid(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a grid.", show_default=False)],
    out_dir: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Directory; runs/NAME of the config file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for another program.")] = False,
) -> None:
    """Train a grid of ResNets or DenseNets from scratch, and test rank 1 on it.

    Killed or stopped, the same command goes on where it was; networks that failed are trained again.

    Example: `triaxis study grid examples/study/grid.yaml --out runs/grid`
    """
    from triaxis.study.grid_config import load_grid_config

    loaded = load_grid_config(config)
    place = out_dir or Path(loaded.out or Path("runs") / config.stem)
    from triaxis.study import grid_text as words
    from triaxis.study.grid import run_grid

    with StageProgress() as progress:
        report = run_grid(loaded, place, progress=progress)
    for name, error in words.failures(report):
        err.print(f"[yellow]failed[/]: {escape(name)}: {escape(error)}")
    if as_json:
        print_json(report.to_plain())
        return
    out.print(escape(f"{words.what(report)} {words.verdict(report)}"))
    if report.trainer is not None:
        out.print(escape(words.trainer_text(report.trainer, report.environment)))
    out.print(f"page: {escape(str(place / 'grid.html'))}, numbers: grid.json, grid.md", soft_wrap=True)
