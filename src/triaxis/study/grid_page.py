"""The result of a grid as one self-contained HTML page. Imports jinja2, so import it only to write a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triaxis.report.draw import Chart, Mark, Rule, Scale, reach
from triaxis.study import grid_text as words
from triaxis.study.grid_report import GridReport
from triaxis.study.grid_study import TableComparison
from triaxis.study.page import (
    LOOKS,
    Figure,
    cube_figure,
    deviation_figure,
    table_figure,
    write_page,
)

Section = dict[str, Any]


def write_grid_page(report: GridReport, path: str | Path) -> Path:
    """Write the page of a grid, whole or not at all; return its path."""
    sections = [section for section in (_tables(report), _off_axis(report), _printed(report), _training(report)) if section]
    return write_page(words.title(report), f"{words.verdict(report)} {words.what(report)}", sections, path)


def _section(title: str, said: str, figures: list[Figure] | None = None, tables: Any = ()) -> Section:
    return {"title": title, "said": said, "figures": figures or [], "tables": tables}


def _tables(report: GridReport) -> Section | None:
    if report.study is None:
        return None
    found = report.study.family.tables
    said = " ".join(filter(None, [words.noise_text(report.study.noise), words.missing_text(report)]))
    return _section("The sub-tables", said, [table_figure(a, f"table-{a.table.name}") for a in found], found)


def _off_axis(report: GridReport) -> Section | None:
    checks = words.cubes(report)
    drawn = [(f"slices through {label}", check, LOOKS[3 - n]) for n, (label, check) in enumerate(checks)]
    caption = "Eq. 6 against what was measured. Points below the diagonal were promised too much."
    figures = [cube_figure(drawn, "cube", caption)] if checks else []
    if report.study is not None and report.study.rank.test is not None:
        figures.append(deviation_figure(report.study.rank, report.study.rank.test, "network"))
    if not figures:
        return None
    return _section("Networks that cut several axes", " ".join(words.cube_text(*pair) for pair in checks), figures)


def _printed(report: GridReport) -> Section | None:
    found = report.study.printed if report.study else None
    if found is None:
        return None
    return _section("Beside the paper's Table 1", words.comparison_text(found), [_printed_figure(found)])


def _training(report: GridReport) -> Section:
    said = [words.trainer_text(report.trainer, report.environment)] if report.trainer else []
    said += [f"{name} failed: {error}" for name, error in words.failures(report)]
    return _section("How it was trained", " ".join(said) or "No network is finished yet.")


def _printed_figure(found: TableComparison) -> Figure:
    marks = []
    for cell in found.cells:
        layers, width, side_px = cell.place
        network = f"{layers} layers, width {width:g}, {side_px} px"
        says = f"{network}: {100 * cell.difference:+.2f} points from {100 * cell.printed:.2f} % printed"
        marks.append(Mark(x=100 * cell.printed, y=100 * cell.difference, ink="chosen", shape="circle", says=says, size=0.75))
    across, up = reach([mark.x for mark in marks]), reach([mark.y for mark in marks])
    caption = "Networks that Table 1 has too. The dotted line is the mean. A flat cloud is the same table at another level."
    chart = Chart(
        name="printed",
        label=caption,
        x=Scale(title="printed accuracy", low=across[0], high=across[1], suffix=" %"),
        y=Scale(title="measured minus printed, points", low=up[0], high=up[1]),
        height=260,
        marks=tuple(marks),
        rules=(Rule(at=100 * found.mean_difference, scale="y"),),
    )
    return {"chart": chart, "caption": caption}
