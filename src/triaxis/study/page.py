"""Studies -> one self-contained HTML page that opens offline. Imports jinja2, so import it only to write a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triaxis.maths.rank import RankTest
from triaxis.report.draw import Chart, Line, Mark, Rule, Scale, reach
from triaxis.report.templates import templates
from triaxis.store.files import write_text
from triaxis.study.rank import RankStudy
from triaxis.study.table1 import FAMILY_NAMES, FamilyStudy
from triaxis.study.tables import EQUATIONS, Analysis, CubeCheck

# Told apart by shape as well.
LOOKS = (("brown", "circle"), ("depth", "square"), ("width", "diamond"), ("chosen", "up"), ("resolution", "cross"))

Figure = dict[str, Any]
"""A chart and its caption."""


def write_table1_page(studies: Sequence[FamilyStudy], path: str | Path) -> Path:
    """Write the page of Table 1, whole or not at all; return its path."""
    sections = [
        {
            "title": f"{FAMILY_NAMES[study.family]} on CIFAR-10",
            "said": _cube_text(study.from_base),
            "figures": [*(table_figure(a, f"{study.family}-{a.table.name}") for a in study.tables), _both_cubes(study)],
            "tables": study.tables,
        }
        for study in studies
    ]
    lead = (
        "150 networks trained from scratch on CIFAR-10 with different depths, widths and resolutions, as printed in the paper's "
        "supplement. If accuracy has rank 1, the lines of each figure are one line scaled: dashes show what one row and one column predict."
    )
    return write_page("Table 1: does accuracy have rank 1?", lead, sections, path)


def write_rank_page(study: RankStudy, title: str, path: str | Path) -> Path:
    """Write the page of one run's trials, whole or not at all; return its path."""
    drawn = [table_figure(a, f"plane-{a.table.name}") for a in study.tables]
    if study.test is not None:
        drawn.insert(0, deviation_figure(study, study.test, "trial"))
    section = {"title": "Trials that cut several axes", "said": "", "figures": drawn, "tables": study.tables}
    return write_page(f"{title}: does accuracy have rank 1?", study.verdict, [section] if drawn else [], path)


def write_page(title: str, lead: str, sections: list[dict[str, Any]], path: str | Path) -> Path:
    """Write a page of sections, each with title, said, figures and tables; return its path."""
    page = templates("triaxis.study").get_template("study.html").render(title=title, lead=lead, sections=sections, equations=EQUATIONS)
    return write_text(Path(path), page)


def _cube_text(check: CubeCheck) -> str:
    errors = 100 * np.abs(check.errors)
    return (
        f"Eq. 6 from three slices through ({check.reference}) predicts the {len(errors)} other printed values with a mean absolute "
        f"error of {errors.mean():.2f} points, at most {errors.max():.2f}."
    )


def _accuracy(title: str, values: Sequence[float]) -> Scale:
    low, high = reach(values)
    return Scale(title=title, low=low, high=high, suffix=" %")


def table_figure(found: Analysis, name: str) -> Figure:
    """Draw one sub-table: what was measured, and what one row and one column predict."""
    table = found.table
    measured, predicted = 100 * table.accuracies, 100 * found.predicted
    marks, lines = [], []
    for n, row in enumerate(table.rows):
        ink, shape = LOOKS[n % len(LOOKS)]
        label = f"{table.row_axis} {row:.2f}"
        lines.append(Line(x=table.columns, y=predicted[n].tolist(), ink=ink, dash="6 4", name=label))
        for column, accuracy in zip(table.columns, measured[n].tolist(), strict=True):
            says = f"{label}, {table.column_axis} {column:.2f}: {accuracy:.2f} % measured"
            marks.append(Mark(x=column, y=accuracy, ink=ink, shape=shape, says=says, name=label, size=0.75))
    low, high = reach(table.columns)
    equation = EQUATIONS[table.fixed_axis]
    caption = (
        f"({table.name}) {table.fixed_axis} {table.fixed:.2f}. Marks: measured. Dashes: {equation} from one row and one column, "
        f"mean absolute error {100 * np.abs(found.errors).mean():.2f} points."
    )
    chart = Chart(
        name=name,
        label=caption,
        x=Scale(title=f"{table.column_axis} keep ratio", low=low, high=high),
        y=_accuracy("accuracy", [*measured.reshape(-1).tolist(), *predicted.reshape(-1).tolist()]),
        height=260,
        lines=tuple(lines),
        marks=tuple(marks),
    )
    return {"chart": chart, "caption": caption}


def cube_figure(checks: Sequence[tuple[str, CubeCheck, tuple[str, str]]], name: str, caption: str) -> Figure:
    """Draw measured accuracies against those that eq. 6 predicts; each check has its label, and its ink and shape."""
    marks = []
    for label, check, (ink, shape) in checks:
        for ratios, predicted, measured in zip(check.ratios.tolist(), check.predicted.tolist(), check.measured.tolist(), strict=True):
            place = "depth {:.2f}, width {:.2f}, resolution {:.2f}".format(*ratios)
            says = f"{place}: {100 * predicted:.2f} % predicted, {100 * measured:.2f} % measured"
            marks.append(Mark(x=100 * predicted, y=100 * measured, ink=ink, shape=shape, says=says, name=label, size=0.65))
    ends = [f([mark.y for mark in marks]) for f in (min, max)]
    chart = Chart(
        name=name,
        label=caption,
        x=_accuracy("predicted by eq. 6, %", [*ends, *(mark.x for mark in marks)]),
        y=_accuracy("measured", ends),
        height=260,
        lines=(Line(x=ends, y=ends, ink="quiet", dash="2 4", width=1.2),),
        marks=tuple(marks),
    )
    return {"chart": chart, "caption": caption}


def _both_cubes(study: FamilyStudy) -> Figure:
    checks = [
        ("slices through the paper's base model", study.from_base, LOOKS[0]),
        ("slices through the largest network", study.from_largest, LOOKS[3]),
    ]
    caption = "Eq. 6 against the printed values. Points below the diagonal were promised too much."
    return cube_figure(checks, f"{study.family}-cube", caption)


def deviation_figure(study: RankStudy, test: RankTest, what: str) -> Figure:
    """Draw how far each network that cuts several axes is from the product of its axes; `what` is the word for one of them."""
    marks = []
    for place, deviation, half in zip(test.points, test.deviations.tolist(), test.half_widths.tolist(), strict=True):
        point = study.points[place]
        ends = (100 * (deviation - half), 100 * (deviation + half))
        says = f"{point.ratios}: {100 * deviation:+.2f} points, {ends[0]:+.2f} to {ends[1]:+.2f}"
        x = 100 * (point.accuracy - deviation)
        marks.append(Mark(x=x, y=100 * deviation, ink="chosen", shape="circle", says=says, interval=ends, size=0.7))
    low, high = reach([0.0, *(end for mark in marks for end in mark.interval or ())])
    caption = f"Each {what} that cuts several axes, with its 90 % interval. Rank 1 predicts 0."
    chart = Chart(
        name="test",
        label=caption,
        x=_accuracy("product of the axes", [mark.x for mark in marks]),
        y=Scale(title="measured minus product, points", low=low, high=high),
        height=260,
        marks=tuple(marks),
        rules=(Rule(at=0.0, scale="y"),),
    )
    return {"chart": chart, "caption": caption}
