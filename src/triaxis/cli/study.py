"""`triaxis study`: the paper's evidence for rank 1, and the same question asked of a run's own trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from triaxis.cli.frame import out, print_json
from triaxis.cli.study_grid import grid

app = typer.Typer(no_args_is_help=True, help="Does accuracy over depth, width and resolution have rank 1?", rich_markup_mode="markdown")
app.command()(grid)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for another program; no page is written.")]


@app.command()
def table1(
    page: Annotated[Path, typer.Option("--out", "-o", metavar="PAGE.html", help="Where the page is written.")] = Path("table1.html"),
    as_json: JsonOption = False,
) -> None:
    """Analyse the 150 accuracies of the paper's supplement, offline.

    Example: `triaxis study table1 --out table1.html`
    """
    from triaxis.cli import show_study
    from triaxis.study.table1 import study_table1

    studies = study_table1()
    if as_json:
        print_json([show_study.family_plain(study) for study in studies])
        return
    show_study.table1(studies)
    from triaxis.study.page import write_table1_page

    out.print(f"\npage: {escape(str(write_table1_page(studies, page)))}", soft_wrap=True)


@app.command()
def rank(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)],
    page: Annotated[Path | None, typer.Option("--out", "-o", metavar="PAGE.html", help="Write a page with the figures too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether rank 1 holds for a run's own trials.

    Example: `triaxis study rank runs/demo --out rank.html`
    """
    from triaxis.cli import show_study
    from triaxis.study.rank import read_run, study_rank

    study = study_rank(read_run(run_dir))
    print_json(show_study.rank_plain(study)) if as_json else show_study.rank(study)
    if page is not None and not as_json:
        from triaxis.study.page import write_rank_page

        out.print(f"page: {escape(str(write_rank_page(study, run_dir.resolve().name, page)))}", soft_wrap=True)
