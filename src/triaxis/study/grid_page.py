"""The result of a grid as one self-contained HTML page. Imports plotly and jinja2, so import it only to write a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from triaxis.maths.rank import RankTest
from triaxis.study import grid_text as words
from triaxis.study.grid_report import GridReport
from triaxis.study.grid_study import TableComparison
from triaxis.study.page import COLORS, QUIET, SYMBOLS, _drawn, _figure, _table_figure, _write
from triaxis.study.rank import RankStudy
from triaxis.study.tables import CubeCheck

Section = dict[str, Any]


def write_grid_page(report: GridReport, path: str | Path) -> Path:
    """Write the page of a grid, whole or not at all; return its path."""
    sections = [section for section in (_tables(report), _off_axis(report), _printed(report), _training(report)) if section]
    return _write(words.title(report), f"{words.verdict(report)} {words.what(report)}", sections, path)


def _section(title: str, said: str, figures: list[dict[str, Any]] | None = None, tables: Any = ()) -> Section:
    return {"title": title, "said": said, "figures": figures or [], "tables": tables}


def _tables(report: GridReport) -> Section | None:
    if report.study is None:
        return None
    found = report.study.family.tables
    said = " ".join(filter(None, [words.noise_text(report.study.noise), words.missing_text(report)]))
    return _section("The sub-tables", said, [_table_figure(a, f"table-{a.table.name}") for a in found], found)


def _off_axis(report: GridReport) -> Section | None:
    checks = words.cubes(report)
    figures = [_cube_figure(checks)] if checks else []
    if report.study is not None and report.study.rank.test is not None:
        figures.append(_test_figure(report.study.rank, report.study.rank.test))
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


def _cube_figure(checks: list[tuple[str, CubeCheck]]) -> dict[str, Any]:
    figure = _figure("predicted by eq. 6, %", "measured")
    measured = 100 * np.concatenate([check.measured for _, check in checks])
    ends = [float(measured.min()), float(measured.max())]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": QUIET, "dash": "dot"}, showlegend=False, hoverinfo="skip")
    for n, (label, check) in enumerate(checks):
        figure.add_scatter(
            x=(100 * check.predicted).round(3).tolist(),
            y=(100 * check.measured).round(3).tolist(),
            mode="markers",
            name=f"slices through {label}",
            marker={"color": COLORS[3 - n], "symbol": SYMBOLS[n], "size": 7},
        )
    return _drawn(figure, "cube", "Eq. 6 against what was measured; points below the diagonal were promised too much.")


def _test_figure(study: RankStudy, test: RankTest) -> dict[str, Any]:
    figure = _figure("product of the axes, %", "measured minus product").update_yaxes(ticksuffix=" points")
    tested = [study.points[n] for n in test.points]
    product = [100 * (point.accuracy - deviation) for point, deviation in zip(tested, test.deviations, strict=True)]
    figure.add_scatter(
        x=[round(value, 3) for value in product],
        y=(100 * test.deviations).round(3).tolist(),
        error_y={"array": (100 * test.half_widths).round(3).tolist(), "color": QUIET, "thickness": 1},
        text=[str(point.ratios) for point in tested],
        mode="markers",
        marker={"color": COLORS[3], "size": 7},
        showlegend=False,
    )
    figure.add_hline(y=0, line={"color": QUIET, "dash": "dot"})
    return _drawn(figure, "test", "Each network that cuts several axes, with its 90 % interval; rank 1 predicts 0.")


def _printed_figure(found: TableComparison) -> dict[str, Any]:
    figure = _figure("printed accuracy, %", "measured minus printed").update_yaxes(ticksuffix=" points")
    figure.add_scatter(
        x=[round(100 * cell.printed, 3) for cell in found.cells],
        y=[round(100 * cell.difference, 3) for cell in found.cells],
        text=[f"{layers} layers, width {width:g}, {side_px} px" for layers, width, side_px in (cell.place for cell in found.cells)],
        mode="markers",
        marker={"color": COLORS[3], "size": 8},
        showlegend=False,
    )
    figure.add_hline(y=100 * found.mean_difference, line={"color": QUIET, "dash": "dot"})
    return _drawn(figure, "printed", "Networks that Table 1 has too; dots: the mean. A flat cloud is the same table at another level.")
