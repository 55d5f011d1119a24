"""Studies -> one self-contained HTML page that opens offline. Imports plotly and jinja2, so import it only to write a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from triaxis.store.files import write_text
from triaxis.study.rank import RankStudy
from triaxis.study.table1 import FAMILY_NAMES, FamilyStudy
from triaxis.study.tables import EQUATIONS, Analysis, CubeCheck

INK, QUIET, GRID = "#1f2933", "#52606d", "#e4e7eb"
# Dark to light, told apart by symbol as well.
COLORS = ("#7c2d12", "#b45309", "#0f766e", "#1f4e8c", "#7c3aed")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


def write_table1_page(studies: Sequence[FamilyStudy], path: str | Path) -> Path:
    """Write the page of Table 1, whole or not at all; return its path."""
    sections = [
        {
            "title": f"{FAMILY_NAMES[study.family]} on CIFAR-10",
            "said": _cube_text(study.from_base),
            "figures": [*(_table_figure(a, f"{study.family}-{a.table.name}") for a in study.tables), _cube_figure(study)],
            "tables": study.tables,
        }
        for study in studies
    ]
    lead = (
        "150 networks trained from scratch on CIFAR-10 with different depths, widths and resolutions, as printed in the paper's "
        "supplement. If accuracy has rank 1, the lines of each figure are one line scaled: dashes show what one row and one column predict."
    )
    return _write("Table 1: does accuracy have rank 1?", lead, sections, path)


def write_rank_page(study: RankStudy, title: str, path: str | Path) -> Path:
    """Write the page of one run's trials, whole or not at all; return its path."""
    drawn = [_table_figure(a, f"plane-{a.table.name}") for a in study.tables]
    if study.test is not None:
        drawn.insert(0, _test_figure(study))
    section = {"title": "Trials that cut several axes", "said": "", "figures": drawn, "tables": study.tables}
    return _write(f"{title}: does accuracy have rank 1?", study.verdict, [section] if drawn else [], path)


def _write(title: str, lead: str, sections: list[dict[str, Any]], path: str | Path) -> Path:
    loader = ChoiceLoader([PackageLoader("triaxis.study", "."), PackageLoader("triaxis.report", ".")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = found.get_template("study.html").render(
        title=title, lead=lead, sections=sections, equations=EQUATIONS, plotly_js=Markup(get_plotlyjs())
    )
    return write_text(Path(path), page)


def _cube_text(check: CubeCheck) -> str:
    errors = 100 * np.abs(check.errors)
    return (
        f"Eq. 6 from three slices through ({check.reference}) predicts the {len(errors)} other printed values with a mean absolute "
        f"error of {errors.mean():.2f} points, at most {errors.max():.2f}."
    )


def _figure(x_title: str, y_title: str) -> go.Figure:
    axis = {"gridcolor": GRID, "linecolor": QUIET, "zeroline": False, "ticks": "outside", "fixedrange": True, "automargin": True}
    return go.Figure().update_layout(
        template=go.layout.Template(),
        height=340,
        margin={"l": 8, "r": 14, "t": 14, "b": 8},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        dragmode=False,
        legend={"orientation": "h", "y": -0.25, "font": {"size": 12}},
        xaxis={**axis, "title": {"text": x_title}},
        yaxis={**axis, "title": {"text": y_title}, "ticksuffix": " %"},
    )


def _drawn(figure: go.Figure, name: str, caption: str) -> dict[str, Any]:
    plot = {**figure.to_plotly_json(), "config": {"displayModeBar": False, "responsive": True}}
    return {"plot": plot, "height": figure.layout.height, "name": name, "caption": caption}


def _table_figure(found: Analysis, name: str) -> dict[str, Any]:
    table = found.table
    figure = _figure(f"{table.column_axis} keep ratio", "accuracy")
    for n, row in enumerate(table.rows):
        style = {"color": COLORS[n % len(COLORS)]}
        label = f"{table.row_axis} {row:.2f}"
        figure.add_scatter(
            x=table.columns,
            y=(100 * table.accuracies[n]).round(3).tolist(),
            mode="markers",
            name=label,
            marker={**style, "symbol": SYMBOLS[n % len(SYMBOLS)], "size": 8},
        )
        predicted = (100 * found.predicted[n]).round(3).tolist()
        figure.add_scatter(x=table.columns, y=predicted, mode="lines", line={**style, "dash": "dash"}, showlegend=False, hoverinfo="skip")
    equation = EQUATIONS[table.fixed_axis]
    caption = (
        f"({table.name}) {table.fixed_axis} {table.fixed:.2f}. Marks: measured. Dashes: {equation} from one row and one column, "
        f"mean absolute error {100 * np.abs(found.errors).mean():.2f} points."
    )
    return _drawn(figure, name, caption)


def _cube_figure(study: FamilyStudy) -> dict[str, Any]:
    figure = _figure("predicted by eq. 6, %", "measured")
    ends = [100 * float(f(study.from_base.measured)) for f in (np.min, np.max)]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": QUIET, "dash": "dot"}, showlegend=False, hoverinfo="skip")
    for n, (label, check) in enumerate((("paper's base model", study.from_base), ("largest network", study.from_largest))):
        figure.add_scatter(
            x=(100 * check.predicted).round(3).tolist(),
            y=(100 * check.measured).round(3).tolist(),
            mode="markers",
            name=f"slices through the {label}",
            marker={"color": COLORS[3 * n], "symbol": SYMBOLS[n], "size": 7},
        )
    return _drawn(figure, f"{study.family}-cube", "Eq. 6 against the printed values; points below the diagonal were promised too much.")


def _test_figure(study: RankStudy) -> dict[str, Any]:
    test = study.test
    assert test is not None
    figure = _figure("", "measured minus product of the axes").update_yaxes(ticksuffix=" points")
    figure.add_scatter(
        x=[str(study.points[n].ratios) for n in test.points],
        y=(100 * test.deviations).round(3).tolist(),
        error_y={"array": (100 * test.half_widths).round(3).tolist(), "color": QUIET},
        mode="markers",
        marker={"color": COLORS[3], "size": 9},
        showlegend=False,
    )
    figure.add_hline(y=0, line={"color": QUIET, "dash": "dot"})
    return _drawn(figure, "test", "Each trial that cuts several axes, with its 90 % interval; rank 1 predicts 0.")
