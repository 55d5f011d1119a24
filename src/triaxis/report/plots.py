"""Plain numbers -> plotly figures. The only file of the report that imports plotly, and only when a figure is drawn.

Axes and models are told apart by symbol and dash as well as by colour; the colours keep their contrast in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triaxis.report.figures import AxisCurve, CostPoint, Estimate, Frontier, frontier_view, stairs
from triaxis.report.words import cost
from triaxis.values import metric_spec

if TYPE_CHECKING:
    import plotly.graph_objects as go

INK, QUIET, GRID, BAND = "#1f2933", "#52606d", "#e4e7eb", "rgba(31, 78, 140, 0.13)"
CHOSEN, MEASURED = "#1f4e8c", "#0b7a4b"
COLORS = {"depth": "#b45309", "width": "#0f766e", "resolution": "#7c3aed", "base": INK, "joint": "#be185d", "equal split": QUIET}
SYMBOLS = {"depth": "triangle-down", "width": "square", "resolution": "circle", "base": "star", "joint": "cross", "equal split": "x"}
DASHES = {"depth": "dash", "width": "dot", "resolution": "dashdot"}
_CONFIG = {"displayModeBar": False, "responsive": True, "scrollZoom": False}
_RATIOS = "depth %{customdata[0]:.2f}, width %{customdata[1]:.2f}, resolution %{customdata[2]:.2f}"


def plotly_js() -> str:
    """Return the text of plotly.js, to be put into a page once."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def to_plain(figure: go.Figure) -> dict[str, Any]:
    """Return the figure as plain data: the arguments of plotly.js's ``newPlot``, and the height in pixels."""
    return {**figure.to_plotly_json(), "config": _CONFIG}


def _figure(x_title: str, y_title: str, height: int, **layout: Any) -> go.Figure:
    import plotly.graph_objects as go

    axis = {
        "gridcolor": GRID,
        "linecolor": QUIET,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": QUIET,
        "fixedrange": True,
        "automargin": True,
        "ticksuffix": " %",
    }
    figure = go.Figure()
    figure.update_layout(
        template=go.layout.Template(),
        height=height,
        margin={"l": 8, "r": 14, "t": 14, "b": 8},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "bordercolor": QUIET, "font": {"color": INK}},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0, "font": {"size": 12}},
        xaxis={**axis, "title": {"text": x_title, "standoff": 8}},
        yaxis={**axis, "title": {"text": y_title, "standoff": 8}},
        dragmode=False,
    )
    return figure.update_layout(**layout)


def _band(figure: go.Figure, x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
    outline = [100 * v for v in (*high, *reversed(low))]
    style = {"fill": "toself", "fillcolor": BAND, "line": {"width": 0}}
    figure.add_scatter(x=[*x, *reversed(x)], y=outline, hoverinfo="skip", showlegend=False, **style)


def _cut_trace(points: Sequence[CostPoint], name: str, metric: str, **style: Any) -> dict[str, Any]:
    shown = f"{_RATIOS}<br>{metric_spec(metric).title} %{{customdata[3]}}<br>predicted %{{y:.2f}} %"
    return {
        "x": [100 * p.fraction for p in points],
        "y": [100 * p.accuracy for p in points],
        "customdata": [(*p.ratios.as_tuple(), cost(p.cost, metric)) for p in points],
        "hovertemplate": f"<b>{name}</b><br>{shown}<extra></extra>",
        "name": name,
        **style,
    }


def _error(interval: tuple[float, float] | None, value: float, color: str) -> dict[str, Any]:
    if interval is None:
        return {"visible": False}
    reach = {"array": [100 * (interval[1] - value)], "arrayminus": [100 * (value - interval[0])]}
    return {"type": "data", "symmetric": False, "thickness": 1.2, "width": 4, "color": color, **reach}


def _marker(name: str, size: int = 11) -> dict[str, Any]:
    key = name.removesuffix(" only")
    look = {"symbol": SYMBOLS.get(key, "diamond"), "color": COLORS.get(key, CHOSEN)}
    return {**look, "size": size, "line": {"width": 1, "color": "white"}}


def frontier_plot(found: Frontier) -> go.Figure:
    """Draw predicted accuracy against cost: the frontier, each axis alone, the chosen cut, its rivals, the delivered model."""
    name, view = metric_spec(found.metric).title, frontier_view(found)
    figure = _figure(f"{name}, % of the base model's", "val accuracy", 470)
    figure.update_xaxes(range=[100 * v for v in view[0]]).update_yaxes(range=[100 * v for v in view[1]])
    curve = found.drawn
    _band(figure, [100 * p.fraction for p in curve], [p.low for p in curve], [p.high for p in curve])
    marked = {rival.name for rival in found.rivals if rival.point}
    for axis, points in found.axes.items():
        style = {"mode": "lines", "line": {"color": COLORS[axis], "width": 1.6, "dash": DASHES[axis]}}
        figure.add_scatter(**_cut_trace(stairs(points), f"{axis} only", found.metric, showlegend=f"{axis} only" not in marked, **style))
    line = {"mode": "lines", "line": {"color": CHOSEN, "width": 3}}
    figure.add_scatter(**_cut_trace(curve, "all three axes", found.metric, **line))
    for rival in (r for r in found.rivals if r.point):
        assert rival.point is not None
        figure.add_scatter(**_cut_trace([rival.point], rival.name, found.metric, mode="markers", marker=_marker(rival.name)))
    if found.chosen and found.budget:
        figure.add_vline(x=100 * found.budget.limit / found.base_cost, line={"color": QUIET, "width": 1, "dash": "dot"})
        figure.add_scatter(**_cut_trace([found.chosen], "chosen (predicted)", found.metric, mode="markers", marker=_marker("chosen", 15)))
    if found.measured:
        _delivered(figure, found)
    return figure


def _delivered(figure: go.Figure, found: Frontier) -> None:
    assert found.measured is not None
    fraction, accuracy = found.measured
    figure.add_scatter(
        x=[100 * fraction],
        y=[100 * accuracy],
        error_y=_error(found.measured_interval, accuracy, MEASURED),
        mode="markers",
        marker={"symbol": "diamond-open", "size": 14, "color": MEASURED, "line": {"width": 2.5, "color": MEASURED}},
        hovertemplate="<b>delivered model</b><br>measured %{y:.2f} %<extra></extra>",
        name="delivered (measured)",
    )


def axis_plot(curve: AxisCurve, y_range: tuple[float, float]) -> go.Figure:
    """Draw one axis: the predicted curve, its interval, the trials, the chosen keep ratio. `y_range` in [0, 1]."""
    figure = _figure(f"{curve.axis} keep ratio", "val accuracy", 300, showlegend=False)
    figure.update_xaxes(ticksuffix="", range=[min(curve.ratio) - 0.03, 1.03])
    figure.update_yaxes(range=[100 * y_range[0], 100 * y_range[1]])
    _band(figure, curve.ratio, curve.low, curve.high)
    color = COLORS[curve.axis]
    figure.add_scatter(
        x=curve.ratio,
        y=[100 * a for a in curve.accuracy],
        mode="lines",
        line={"color": color, "width": 2, "dash": DASHES[curve.axis]},
        hovertemplate="predicted %{y:.2f} % at %{x:.2f}<extra></extra>",
    )
    for trial in curve.trials:
        figure.add_scatter(
            x=[getattr(trial.ratios, curve.axis)],
            y=[100 * trial.measured],
            error_y=_error(trial.measured_interval, trial.measured, color),
            mode="markers",
            marker=_marker(trial.axis, 10),
            hovertemplate=f"{trial.axis} trial<br>measured %{{y:.2f}} % at %{{x:.3f}}<extra></extra>",
        )
    if curve.chosen is not None:
        figure.add_vline(x=curve.chosen, line={"color": CHOSEN, "width": 1.5, "dash": "dot"})
    return figure


def prediction_plot(estimates: Sequence[Estimate], delivered: tuple[float, float] | None) -> go.Figure:
    """Draw measured against predicted accuracy; `delivered` is the delivered model's (predicted, measured)."""
    figure = _figure("predicted val accuracy", "measured val accuracy", 420)
    values = [v for e in estimates for v in (e.measured, e.predicted)] + list(delivered or ())
    ends = [100 * min(values) - 0.5, min(100 * max(values) + 0.5, 100.2)]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": QUIET, "width": 1, "dash": "dot"}, hoverinfo="skip", showlegend=False)
    for axis in dict.fromkeys(e.axis for e in estimates):
        group = [e for e in estimates if e.axis == axis]
        figure.add_scatter(
            x=[100 * e.predicted for e in group],
            y=[100 * e.measured for e in group],
            customdata=[e.ratios.as_tuple() for e in group],
            mode="markers",
            marker=_marker(axis),
            hovertemplate=f"<b>{axis}</b><br>{_RATIOS}<br>predicted %{{x:.2f}} %, measured %{{y:.2f}} %<extra></extra>",
            name=f"{axis} trials" if axis != "base" else "base",
        )
    if delivered:
        marker = {"symbol": "diamond-open", "size": 14, "color": MEASURED, "line": {"width": 2.5}}
        shown = "<b>delivered model</b><br>predicted %{x:.2f} %, measured %{y:.2f} %<extra></extra>"
        x, y = [100 * delivered[0]], [100 * delivered[1]]
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, hovertemplate=shown, name="delivered")
    return figure
