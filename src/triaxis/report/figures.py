"""Records -> the plain numbers of each figure: no markup, no drawing, nothing formatted.

Each function returns None where the records it needs are not there yet. Accuracies are in [0, 1], costs in the
metric's unit, `fraction` is of the base model's cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from triaxis.maths import interval
from triaxis.maths.frontier import equal_split, frontier, single_axis
from triaxis.maths.lattice import BASE, Lattice, Levels, on_axis
from triaxis.maths.predict import predict
from triaxis.maths.solve import MARGIN
from triaxis.report.records import Records
from triaxis.values import AXES, AccuracyPredictor, Axis, Budget, CostTable, KeepRatios, Measured, Solution, done_trials

STAGES = ("load", "base", "examine", "blocks", "cost", "collect", "refine", "fit", "solve", "prune", "verify", "export", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPoint:
    """One cut: its keep ratios, its cost, and the accuracy predicted for it with the 90 % interval."""

    ratios: KeepRatios
    cost: float
    fraction: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another way to meet the same budget; `point` is None where it cannot, extrapolated where no trial went as far."""

    name: str
    point: CostPoint | None
    is_extrapolated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """The best predicted accuracy at every cost, with the chosen cut, its rivals and what was measured in the end.

    `axes` holds, for each axis that can be cut, what that axis reaches alone. `measured` is (fraction of the base model's
    cost, val accuracy) of the delivered model.
    """

    metric: str
    base_cost: float
    curve: tuple[CostPoint, ...]
    axes: dict[Axis, tuple[CostPoint, ...]]
    budget: Budget | None = None
    chosen: CostPoint | None = None
    rivals: tuple[Rival, ...] = ()
    measured: tuple[float, float] | None = None
    measured_interval: tuple[float, float] | None = None

    @property
    def drawn(self) -> tuple[CostPoint, ...]:
        """The curve as stairs up to the base model's cost, which is what a budget in between really buys."""
        return stairs((*self.curve, dataclasses.replace(self.curve[-1], fraction=max(1.0, self.curve[-1].fraction))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One measured accuracy beside the predicted one; intervals are 95 % (measured) and 90 % (predicted)."""

    axis: str
    ratios: KeepRatios
    measured: float
    measured_interval: tuple[float, float] | None
    predicted: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisCurve:
    """Predicted accuracy along one axis, the others uncut, with the trials on it and the chosen keep ratio."""

    axis: Axis
    ratio: tuple[float, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    trials: tuple[Estimate, ...]
    chosen: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisShare:
    """How much of the cut one axis carries.

    `fraction` is the cost left when this axis alone is cut as chosen; `share` its part of the log cost saved by the three
    alone; `loss` the accuracy it is predicted to cost alone; `loss_per_halving` the same for each halving of the cost along
    this axis, over the whole measured range.
    """

    axis: Axis
    ratio: float
    fraction: float
    share: float
    loss: float
    loss_per_halving: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One quantity before and after; `kind` says how to print it, `spread` and `interval` how sure it is."""

    name: str
    kind: str
    base: float
    compressed: float
    base_interval: tuple[float, float] | None = None
    compressed_interval: tuple[float, float] | None = None
    base_spread: float | None = None
    compressed_spread: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What was cut: by stage (block, is kept), (channel group, channels before, after), sides in pixels."""

    stages: tuple[tuple[tuple[str, bool], ...], ...]
    num_blocks: int
    num_kept: int
    groups: tuple[tuple[str, int, int], ...]
    num_channels: int
    num_channels_kept: int
    base_side_px: int
    side_px: int


def stairs(points: Sequence[CostPoint]) -> tuple[CostPoint, ...]:
    """Return points by rising cost with each one going on level until the next: blocks and channels are integers."""
    rising = sorted(points, key=lambda p: p.fraction)
    levels = [dataclasses.replace(left, fraction=right.fraction) for left, right in pairwise(rising)]
    return tuple(dict.fromkeys(point for pair in zip(rising, [*levels, rising[-1]], strict=True) for point in pair))


def val_interval(records: Records, accuracy: float, known: tuple[float, float] | None = None) -> tuple[float, float] | None:
    """Return the 95 % interval of an accuracy measured on the val split, as the run's task gave it.

    Version 0.1 recorded none: of its runs the interval is made here, from the number of val images, and is None where that is not
    known. Of a balanced accuracy the mean alone was recorded; its classes are taken to have the same recall.
    """
    if known is not None:
        return known
    if sizes := records.collection.get("val_class_sizes"):
        return interval.balanced([accuracy * size for size in sizes], sizes)
    return interval.wilson(accuracy, records.num_val) if records.num_val else None


def _predict(predictor: AccuracyPredictor, ratios: Sequence[KeepRatios]) -> list[tuple[float, float, float]]:
    found = predict(predictor, np.array([r.as_tuple() for r in ratios], dtype=float))
    columns = (np.asarray(found.accuracy), np.asarray(found.low), np.asarray(found.high))
    return [(float(a), float(low), float(high)) for a, low, high in zip(*columns, strict=True)]


def cut_point(solution: Solution, metric: str, base_cost: float) -> CostPoint:
    """Return a solution's cut at its cost in one metric."""
    cost = solution.costs[metric]
    low, high = solution.interval
    return CostPoint(ratios=solution.ratios, cost=cost, fraction=cost / base_cost, accuracy=solution.predicted_accuracy, low=low, high=high)


def _level_points(records: Records, levels: Sequence[Levels], metric: str) -> tuple[CostPoint, ...]:
    table, predictor = records.cost_table, records.predictor
    assert table is not None and predictor is not None
    if not levels:
        return ()
    lattice, base = Lattice(table), table.base_cost(metric)
    ratios, costs = [lattice.ratios(cut) for cut in levels], [lattice.cost(metric, cut) for cut in levels]
    return tuple(
        CostPoint(ratios=r, cost=c, fraction=c / base, accuracy=a, low=low, high=high)
        for r, c, (a, low, high) in zip(ratios, costs, _predict(predictor, ratios), strict=True)
    )


def _axis_levels(predictor: AccuracyPredictor, table: CostTable, axis: Axis) -> list[Levels]:
    """Levels along one axis, the others uncut, as far as trials were made: beyond is extrapolation."""
    smallest = predictor.domain[axis][0]
    return [on_axis(axis, n) for n, ratio in enumerate(getattr(table, axis)) if ratio >= smallest - MARGIN]


def _rivals(records: Records, table: CostTable, solution: Solution, budget: Budget) -> tuple[Rival, ...]:
    assert records.predictor is not None
    base = table.base_cost(budget.metric)
    alone = single_axis(records.predictor, table, solution.budgets)
    rivals = []
    for axis, found in alone.items():
        point = cut_point(found, budget.metric, base) if found else None
        rivals.append(Rival(name=f"{axis} only", point=point, is_extrapolated=bool(found and found.status == "extrapolated")))
    split = _level_points(records, [equal_split(table, budget)], budget.metric)[0]
    outside = any(ratio < records.predictor.domain[axis][0] - MARGIN for axis, ratio in zip(AXES, split.ratios.as_tuple(), strict=True))
    return (*rivals, Rival(name="equal split", point=split, is_extrapolated=outside))


def frontier_figure(records: Records, num: int = 200) -> Frontier | None:
    """Return the accuracy/cost frontier in the metric that binds, the chosen cut and its rivals within the same budget."""
    table, predictor, solution = records.cost_table, records.predictor, records.solution
    if table is None or predictor is None:
        return None
    metric: str = solution.binding if solution else next(iter(table.costs))
    base = table.base_cost(metric)
    curve = tuple(dict.fromkeys(cut_point(s, metric, base) for s in frontier(predictor, table, metric, num)))
    axes = {axis: _level_points(records, levels, metric) for axis in AXES if len(levels := _axis_levels(predictor, table, axis)) > 1}
    if solution is None:
        return Frontier(metric=metric, base_cost=base, curve=curve, axes=axes)
    budget = next(b for b in solution.budgets if b.metric == metric)
    chosen, verified = cut_point(solution, metric, base), records.verification
    return Frontier(
        metric=metric,
        base_cost=base,
        curve=curve,
        axes=axes,
        budget=budget,
        chosen=chosen,
        rivals=_rivals(records, table, solution, budget),
        measured=(chosen.fraction, verified.compressed.val_accuracy) if verified else None,
        measured_interval=val_interval(records, verified.compressed.val_accuracy, verified.compressed.val_interval) if verified else None,
    )


def frontier_view(found: Frontier) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the part of the frontier to look at: ranges of cost fraction and of accuracy.

    Much cheaper cuts than the chosen one, and single axes far below it, would only flatten what matters.
    """
    least = 0.4 * found.budget.limit / found.base_cost if found.budget else 0.0
    marks = [(r.point.fraction, r.point.accuracy) for r in found.rivals if r.point] + ([found.measured] if found.measured else [])
    if found.chosen:
        marks += [(found.chosen.fraction, found.chosen.low), (found.chosen.fraction, found.chosen.high)]
    seen = [(p.fraction, p.accuracy) for p in found.drawn if p.fraction >= least] + marks
    low, high = min(accuracy for _, accuracy in seen), max(accuracy for _, accuracy in seen)
    reach = max(high - low, 0.004)
    return (min(fraction for fraction, _ in seen) - 0.02, 1.02), (low - 0.1 * reach, high + 0.12 * reach)


def predicted_measured(records: Records) -> tuple[Estimate, ...] | None:
    """Return every finished trial's measured accuracy beside what the predictor gives at its achieved keep ratios."""
    done = done_trials(records.trials)
    if records.predictor is None or not done:
        return None
    found = _predict(records.predictor, [t.achieved for t in done])
    return tuple(
        Estimate(
            axis=trial.spec.axis,
            ratios=trial.achieved,
            measured=trial.val_accuracy or 0.0,
            measured_interval=val_interval(records, trial.val_accuracy or 0.0, trial.val_interval),
            predicted=accuracy,
            low=low,
            high=high,
        )
        for trial, (accuracy, low, high) in zip(done, found, strict=True)
    )


def axis_curves(records: Records, num: int = 41) -> tuple[AxisCurve, ...] | None:
    """Return, for each axis on which trials were made, the predicted curve with its 90 % interval and its trials."""
    estimates = predicted_measured(records)
    if estimates is None or records.predictor is None:
        return None
    curves = []
    for axis in AXES:
        smallest = records.predictor.domain[axis][0]
        if smallest == 1:
            continue
        ratio = tuple(np.linspace(smallest, 1.0, num).tolist())
        found = _predict(records.predictor, [KeepRatios().replace(**{axis: r}) for r in ratio])
        accuracy, low, high = (tuple(column) for column in zip(*found, strict=True))
        chosen = getattr(records.solution.ratios, axis) if records.solution else None
        trials = tuple(e for e in estimates if e.axis in (axis, "base"))
        curves.append(AxisCurve(axis=axis, ratio=ratio, accuracy=accuracy, low=low, high=high, trials=trials, chosen=chosen))
    return tuple(curves)


def _loss_per_halving(points: Sequence[CostPoint]) -> float | None:
    halvings = -np.log2(points[-1].fraction) if len(points) > 1 else 0.0
    return float((points[0].accuracy - points[-1].accuracy) / halvings) if halvings > 0 else None


def axis_shares(records: Records) -> tuple[AxisShare, ...] | None:
    """Return how much of the saved log cost each axis carries, and what each is predicted to cost in accuracy, alone."""
    table, predictor, solution = records.cost_table, records.predictor, records.solution
    if table is None or predictor is None or solution is None:
        return None
    uncut = _level_points(records, [BASE], solution.binding)[0]
    nearest = Lattice(table).nearest(solution.ratios)
    alone = _level_points(records, [on_axis(axis, level) for axis, level in zip(AXES, nearest, strict=True)], solution.binding)
    saved = [max(0.0, -float(np.log(point.fraction))) for point in alone]
    total = sum(saved) or 1.0
    return tuple(
        AxisShare(
            axis=axis,
            ratio=getattr(point.ratios, axis),
            fraction=point.fraction,
            share=part / total,
            loss=uncut.accuracy - point.accuracy,
            loss_per_halving=_loss_per_halving(_level_points(records, _axis_levels(predictor, table, axis), solution.binding)),
        )
        for axis, point, part in zip(AXES, alone, saved, strict=True)
    )


def comparison(records: Records) -> tuple[Comparison, ...] | None:
    """Return what was measured on the base and the compressed model, one row for each quantity."""
    found = records.verification
    if found is None:
        return None
    base, cut = found.base, found.compressed
    return (
        *_accuracies(base, cut, records),
        Comparison(name="MACs", kind="count", base=base.macs, compressed=cut.macs),
        Comparison(name="params", kind="count", base=base.params, compressed=cut.params),
        *_latencies(base, cut),
        Comparison(name="file", kind="bytes", base=base.file_bytes, compressed=cut.file_bytes),
    )


def _accuracies(base: Measured, cut: Measured, records: Records) -> Iterator[Comparison]:
    kind = "balanced " if records.config.get("fit", {}).get("target") == "balanced_accuracy" else ""
    if base.test_accuracy is not None and cut.test_accuracy is not None:
        yield Comparison(
            name=f"{kind}test accuracy",
            kind="accuracy",
            base=base.test_accuracy,
            compressed=cut.test_accuracy,
            base_interval=base.test_interval,
            compressed_interval=cut.test_interval,
        )
    yield Comparison(
        name=f"{kind}val accuracy",
        kind="accuracy",
        base=base.val_accuracy,
        compressed=cut.val_accuracy,
        base_interval=val_interval(records, base.val_accuracy, base.val_interval),
        compressed_interval=val_interval(records, cut.val_accuracy, cut.val_interval),
    )


def _latencies(base: Measured, cut: Measured) -> Iterator[Comparison]:
    for batch in (b for b in base.latency_ms if b in cut.latency_ms):
        yield Comparison(
            name=f"latency, batch {batch}",
            kind="latency",
            base=base.latency_ms[batch],
            compressed=cut.latency_ms[batch],
            base_spread=base.latency_spread_ms.get(batch),
            compressed_spread=cut.latency_spread_ms.get(batch),
        )


def removal(records: Records) -> Removal | None:
    """Return what the plan removes: blocks, channels per group, pixels."""
    plan = records.plan
    if plan is None:
        return None
    removed = set(plan.removed_blocks)
    blocks = (records.anatomy or {}).get("blocks") or [{"name": name, "stage": ""} for name in plan.removed_blocks]
    stages = [[block["name"] for block in stage] for _, stage in groupby(blocks, key=lambda block: block["stage"])]
    groups = tuple((cut.group, cut.num_channels, len(cut.kept)) for cut in plan.channels)
    return Removal(
        stages=tuple(tuple((name, name not in removed) for name in names) for names in stages),
        num_blocks=plan.num_blocks,
        num_kept=plan.num_blocks - len(removed),
        groups=groups,
        num_channels=plan.num_channels,
        num_channels_kept=plan.num_channels - sum(before - after for _, before, after in groups),
        base_side_px=plan.base_side_px,
        side_px=plan.side_px,
    )


def stage_seconds(records: Records) -> tuple[tuple[str, float, float], ...] | None:
    """Return (stage, seconds, share of the total) in the order in which stages run."""
    total = sum(records.seconds.values())
    if total <= 0:
        return None
    known = [stage for stage in STAGES if stage in records.seconds]
    stages = [*known, *(stage for stage in records.seconds if stage not in STAGES)]
    return tuple((stage, records.seconds[stage], records.seconds[stage] / total) for stage in stages)
