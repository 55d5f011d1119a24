"""Plain numbers -> the charts of a report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from triaxis.report.draw import DASHES, Band, Chart, Line, Mark, Rule, Scale, reach, shape_of
from triaxis.report.figures import AxisCurve, CostPoint, Estimate, Frontier, frontier_view, stairs
from triaxis.report.words import cost, percent
from triaxis.values import KeepRatios, metric_spec


def frontier_plot(found: Frontier, moving: tuple[float, float] | None = None) -> Chart:
    """Draw predicted accuracy against cost: the frontier, each axis alone, the chosen cut, its rivals, the delivered model.

    `moving` is a (cost fraction, accuracy) that a script may move.
    """
    title, (fractions, accuracies) = metric_spec(found.metric).title, frontier_view(found)
    curve = found.drawn
    return Chart(
        name="frontier",
        label=f"Predicted val accuracy against {title}: all three axes together, and each axis alone.",
        x=Scale(title=f"{title}, % of the base model's", low=100 * fractions[0], high=100 * fractions[1], suffix=" %"),
        y=Scale(title="val accuracy", low=100 * accuracies[0], high=100 * accuracies[1], suffix=" %", max_ticks=8),
        height=420,
        bands=(_band([p.fraction for p in curve], [p.low for p in curve], [p.high for p in curve], 100),),
        lines=(*_axis_lines(found), _cut_line(curve, "all three axes", "chosen", width=3)),
        marks=tuple(_frontier_marks(found)),
        rules=(Rule(at=100 * found.budget.limit / found.base_cost, scale="x"),) if found.budget else (),
        moving=(100 * moving[0], 100 * moving[1]) if moving else None,
    )


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float], x_factor: float) -> Band:
    return Band(x=[x_factor * v for v in x], low=[100 * v for v in low], high=[100 * v for v in high])


def _cut_line(points: Sequence[CostPoint], name: str, ink: str, dash: str = "", width: float = 1.8) -> Line:
    x, y = [100 * p.fraction for p in points], [100 * p.accuracy for p in points]
    return Line(x=x, y=y, ink=ink, name=name, dash=dash, width=width)


def _axis_lines(found: Frontier) -> tuple[Line, ...]:
    return tuple(_cut_line(stairs(points), f"{axis} only", axis, DASHES[axis]) for axis, points in found.axes.items())


def _frontier_marks(found: Frontier) -> list[Mark]:
    marks = []
    for rival in found.rivals:
        if rival.point is not None:
            ink = rival.name.removesuffix(" only").replace(" ", "-")
            marks.append(_cut_mark(rival.point, rival.name, ink, shape_of(ink), found.metric))
    if found.chosen:
        marks.append(_cut_mark(found.chosen, "chosen (predicted)", "chosen", "diamond", found.metric, size=1.25))
    if found.measured:
        fraction, accuracy = found.measured
        says = f"delivered model: {percent(accuracy, 2)} measured"
        marks.append(_delivered(100 * fraction, 100 * accuracy, says, found.measured_interval))
    return marks


def _delivered(x: float, y: float, says: str, interval: tuple[float, float] | None = None) -> Mark:
    ends = (100 * interval[0], 100 * interval[1]) if interval else None
    name = "delivered (measured)"
    return Mark(x=x, y=y, ink="measured", shape="diamond", says=says, name=name, interval=ends, is_open=True, size=1.25)


def _cut_mark(point: CostPoint, name: str, ink: str, shape: str, metric: str, size: float = 1.0) -> Mark:
    spent = f"{metric_spec(metric).title} {cost(point.cost, metric)}"
    says = f"{name}: {_ratios(point.ratios)}; {spent}; {percent(point.accuracy, 2)} predicted"
    return Mark(x=100 * point.fraction, y=100 * point.accuracy, ink=ink, shape=shape, says=says, name=name, size=size)


def _ratios(ratios: KeepRatios) -> str:
    return f"depth {ratios.depth:.2f}, width {ratios.width:.2f}, resolution {ratios.resolution:.2f}"


def axis_plot(curve: AxisCurve, y_range: tuple[float, float]) -> Chart:
    """Draw one axis: the predicted curve, its interval, the trials, the chosen keep ratio. `y_range` in [0, 1]."""
    ends = f"from {percent(curve.accuracy[-1])} uncut to {percent(curve.accuracy[0])} at {curve.ratio[0]:.2f}"
    chosen = () if curve.chosen is None else (Rule(at=curve.chosen, scale="x", ink="chosen"),)
    line = Line(x=curve.ratio, y=[100 * a for a in curve.accuracy], ink=curve.axis, dash=DASHES[curve.axis], width=2)
    return Chart(
        name=f"axis-{curve.axis}",
        label=f"Predicted val accuracy against the {curve.axis} keep ratio, {ends}, with its interval and trials.",
        x=Scale(title=f"{curve.axis} keep ratio", low=min(curve.ratio) - 0.03, high=1.03),
        y=Scale(title="val accuracy", low=100 * y_range[0], high=100 * y_range[1], suffix=" %"),
        height=230,
        bands=(_band(curve.ratio, curve.low, curve.high, 1),),
        lines=(line,),
        marks=tuple(_trial_mark(trial, curve) for trial in curve.trials),
        rules=chosen,
        has_key=False,
    )


def _trial_mark(trial: Estimate, curve: AxisCurve) -> Mark:
    at = getattr(trial.ratios, curve.axis)
    says = f"{trial.axis} trial at {at:.3f}: {percent(trial.measured, 2)} measured"
    ends = (100 * trial.measured_interval[0], 100 * trial.measured_interval[1]) if trial.measured_interval else None
    return Mark(
        x=at,
        y=100 * trial.measured,
        ink=trial.axis,
        shape=shape_of(trial.axis),
        says=says,
        interval=ends,
        size=0.85,
    )


def prediction_plot(estimates: Sequence[Estimate], delivered: tuple[float, float] | None) -> Chart:
    """Draw measured against predicted accuracy; `delivered` is the delivered model's (predicted, measured)."""
    values = [100 * v for v in (*chain.from_iterable((e.measured, e.predicted) for e in estimates), *(delivered or ()))]
    low, high = reach(values)
    marks = [_estimate_mark(estimate) for estimate in estimates]
    if delivered:
        predicted, measured = delivered
        says = f"delivered model: {percent(predicted, 2)} predicted, {percent(measured, 2)} measured"
        marks.append(_delivered(100 * predicted, 100 * measured, says))
    return Chart(
        name="prediction",
        label=f"Measured against predicted val accuracy of {len(estimates)} trials; exact predictions lie on the diagonal.",
        x=Scale(title="predicted val accuracy", low=low, high=high, suffix=" %"),
        y=Scale(title="measured val accuracy", low=low, high=high, suffix=" %"),
        height=340,
        lines=(Line(x=(low, high), y=(low, high), ink="quiet", dash="2 4", width=1),),
        marks=tuple(marks),
    )


def _estimate_mark(estimate: Estimate) -> Mark:
    axis = estimate.axis
    shown = f"{percent(estimate.predicted, 2)} predicted, {percent(estimate.measured, 2)} measured"
    return Mark(
        x=100 * estimate.predicted,
        y=100 * estimate.measured,
        ink=axis,
        shape=shape_of(axis),
        says=f"{axis}: {_ratios(estimate.ratios)}; {shown}",
        name="base model" if axis == "base" else f"{axis} trials",
    )
