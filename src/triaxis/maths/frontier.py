"""The best cut for every budget at once, and the simpler cuts to compare it with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triaxis.errors import InfeasibleBudgetError
from triaxis.maths.lattice import Lattice, Levels
from triaxis.maths.polynomial import Floats
from triaxis.maths.solve import PredictedCuts, feasible_rows, predict_lattice, solution_at
from triaxis.values import AXES, AccuracyPredictor, Axis, Budget, CostTable, Solution

EQUAL_SPLIT = (1 / 3, 1 / 6, 1 / 6)
# EfficientNet's compound coefficients (depth 1.2, width 1.1, resolution 1.15), run backwards; Tan and Le, ICML 2019.
COMPOUND = (np.log(1.2), np.log(1.1), np.log(1.15))


def frontier(predictor: AccuracyPredictor, table: CostTable, metric: str, num: int = 50) -> tuple[Solution, ...]:
    """Return the best cut for `num` budgets, evenly spaced from the cheapest measured cut to the base model.

    Args:
        predictor: From `fit`.
        table: Costs of what can be cut.
        metric: The budgets' metric.
        num: Number of budgets, 2 or more.

    Returns:
        Solutions by rising budget; predicted accuracy never falls along them. Neighbours may be the same cut.

    Raises:
        ConfigError: The table has no such metric.
    """
    cuts = predict_lattice(predictor, table)
    costs = cuts.lattice.costs(metric)
    rows = np.flatnonzero(cuts.is_measured) if cuts.is_measured.any() else np.arange(len(costs))
    order = rows[np.lexsort((-cuts.accuracy[rows], costs[rows]))]
    # Along rising cost, the best so far; a later cut must be strictly better to take over, so ties stay cheap.
    is_better = np.concatenate([[True], cuts.accuracy[order][1:] > np.maximum.accumulate(cuts.accuracy[order])[:-1] + 1e-12])
    steps = order[is_better]
    limits = np.linspace(costs[order[0]], max(costs[0], costs[order[0]]), num)
    picked = steps[np.searchsorted(costs[steps], limits, side="right") - 1]
    return tuple(
        solution_at(cuts, (_budget(metric, limit, costs[0]),), cuts.lattice.levels(row)) for limit, row in zip(limits, picked, strict=True)
    )


def _budget(metric: str, limit: float, base_cost: float) -> Budget:
    return Budget(metric=metric, limit=float(limit), fraction=float(limit / base_cost))


def single_axis(predictor: AccuracyPredictor, table: CostTable, budgets: Sequence[Budget]) -> dict[Axis, Solution | None]:
    """Return, for each axis, the best cut that leaves the other two at the base model's; None where it cannot meet the budgets."""
    cuts = predict_lattice(predictor, table)
    return {axis: _best_along(cuts, budgets, a) for a, axis in enumerate(AXES)}


def _best_along(cuts: PredictedCuts, budgets: Sequence[Budget], axis: int) -> Solution | None:
    others = [a for a in range(3) if a != axis]
    try:
        rows = feasible_rows(cuts.lattice, budgets)
    except InfeasibleBudgetError:
        return None
    rows = rows[np.all(cuts.lattice.x[rows][:, others] == cuts.lattice.x[0, others], axis=1)]
    if not len(rows):
        return None
    rows = rows[cuts.is_measured[rows]] if cuts.is_measured[rows].any() else rows
    price = cuts.lattice.costs(budgets[0].metric)[rows]
    row = rows[np.lexsort((price, -cuts.accuracy[rows]))[0]]
    return solution_at(cuts, budgets, cuts.lattice.levels(row))


def equal_split(table: CostTable, budget: Budget) -> Levels:
    """Return the levels of a cut that gives each axis a third of the budget: d = T^(1/3), w = r = T^(1/6).

    T shrinks along that path until the nearest levels are within budget, as near under it as the lattice allows.

    Raises:
        InfeasibleBudgetError: No cut is cheap enough.
    """
    return along_path(table, budget, EQUAL_SPLIT)


def compound(table: CostTable, budget: Budget) -> Levels:
    """Return the levels of EfficientNet's compound scaling run backwards: d = 1.2^-f, w = 1.1^-f, r = 1.15^-f.

    Raises:
        InfeasibleBudgetError: No cut is cheap enough.
    """
    return along_path(table, budget, COMPOUND)


def along_path(table: CostTable, budget: Budget, exponents: Sequence[float]) -> Levels:
    """Return the dearest cut within budget among the levels nearest to the path x_a = s^exponents[a], s falling from 1.

    Where no point of the path is cheap enough, the smallest levels are tried, and then the feasible cut nearest to them.

    Raises:
        InfeasibleBudgetError: No cut is cheap enough.
    """
    lattice = Lattice(table)
    rows, costs = feasible_rows(lattice, [budget]), lattice.costs(budget.metric)
    s = np.exp(np.linspace(0.0, np.log(1e-4) / min(exponents), 4000))
    nearest = [_nearest(np.array(getattr(table, axis)), s**power) for axis, power in zip(AXES, exponents, strict=True)]
    on_path = np.unique(lattice.rows(list(zip(*nearest, strict=True))))
    on_path = on_path[np.isin(on_path, rows)]
    if not len(on_path):
        x = np.log(lattice.x)
        on_path = rows[[int(np.argmin(np.linalg.norm(x[rows] - x[-1], axis=1)))]]
    return lattice.levels(on_path[np.argmax(costs[on_path])])


def _nearest(levels: Floats, wanted: Floats) -> np.ndarray:
    """Return the index of the level nearest to each wanted ratio, in log."""
    return np.abs(np.log(levels)[None, :] - np.log(wanted)[:, None]).argmin(axis=1)
