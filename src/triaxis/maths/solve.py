"""Maximise the accuracy predictor under one or several budgets: over real ratios, and over what can really be cut.

Notation:
    x   keep ratios (d, w, r);  y = log x
    F   accuracy predictor;  C_m cost in metric m;  T_m its budget
    g   dF/dy;  a_m = d log C_m / dy                      shape (3,)
    KKT g = sum over m of l_m a_m + u - v, with l, u, v >= 0, u only at upper bounds, v only at lower ones

So on every axis that is not at a bound the gain in F per unit of log cost is the same, l. With one budget and the
paper's C = d w^2 r^2 this reads d F_d = w F_w / 2 = r F_r / 2 = l.

Source: Wang et al., ICML 2021, section 3 (Lagrange multipliers and KKT). The lattice step is ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize

from triaxis.errors import ConfigError, InfeasibleBudgetError
from triaxis.maths.cost import CostModel, fit_cost
from triaxis.maths.lattice import Lattice, Levels
from triaxis.maths.polynomial import Floats
from triaxis.maths.predict import accuracy, gradient, predict
from triaxis.values import AXES, AccuracyPredictor, Axis, Budget, ContinuousOptimum, CostTable, KeepRatios, Solution

TIE = 1e-12
# A level this little below the smallest measured keep ratio still counts as measured: both are roundings of one target.
MARGIN = 0.005
AT_BOUND = 1e-6


class PredictedCuts(NamedTuple):
    """Every cut of a lattice with its prediction, in the order of rows. `is_measured` marks the domain."""

    lattice: Lattice
    accuracy: Floats
    low: Floats
    high: Floats
    is_measured: np.ndarray


def predict_lattice(predictor: AccuracyPredictor, table: CostTable) -> PredictedCuts:
    """Predict the accuracy of every cut of the table."""
    lattice = Lattice(table)
    inside = [_is_inside(predictor, axis, lattice.x[:, a]) for a, axis in enumerate(AXES)]
    return PredictedCuts(lattice, *predict(predictor, lattice.x), np.logical_and.reduce(inside))


def _is_inside(predictor: AccuracyPredictor, axis: Axis, ratios: Floats) -> np.ndarray:
    low, high = predictor.domain[axis]
    return (ratios >= low - MARGIN) & (ratios <= high + MARGIN)


def solve(predictor: AccuracyPredictor, table: CostTable, budgets: Sequence[Budget], *, with_continuous: bool = True) -> Solution:
    """Return the most accurate cut whose cost is within every budget; of equals, the cheapest.

    The lattice is searched exactly, so the answer is never over budget. Keep ratios below the smallest measured one
    are used only where nothing else meets the budgets; the status then is "extrapolated".

    Args:
        predictor: From `fit`.
        table: Costs of what can be cut, in each budget's metric.
        budgets: One or more; all hold at once.
        with_continuous: Whether to add the optimum over real ratios with its KKT residual.

    Raises:
        InfeasibleBudgetError: No cut is cheap enough; names the smallest possible cost.
        ConfigError: The table lacks a budget's metric, or there is no budget.
    """
    best = candidates(predictor, table, budgets, num=1)[0]
    if not with_continuous:
        return best
    return dataclasses.replace(best, continuous=continuous_optimum(predictor, table, budgets, start=best.ratios))


def candidates(predictor: AccuracyPredictor, table: CostTable, budgets: Sequence[Budget], *, num: int = 5) -> tuple[Solution, ...]:
    """Return the `num` best cuts within every budget, best first; for measuring latency anew before choosing.

    Raises:
        InfeasibleBudgetError: No cut is cheap enough; names the smallest possible cost.
    """
    cuts = predict_lattice(predictor, table)
    rows, _ = _allowed(cuts, budgets)
    price = cuts.lattice.costs(budgets[0].metric)
    order = rows[np.lexsort((price[rows], -_rounded(cuts.accuracy[rows])))]
    return tuple(solution_at(cuts, budgets, cuts.lattice.levels(row)) for row in order[:num])


def _rounded(accuracy: Floats) -> Floats:
    return np.round(accuracy / TIE) * TIE


def _allowed(cuts: PredictedCuts, budgets: Sequence[Budget]) -> tuple[np.ndarray, bool]:
    """Return the rows within every budget, inside the measured domain where it has any, and whether it has."""
    feasible = feasible_rows(cuts.lattice, budgets)
    measured = feasible[cuts.is_measured[feasible]]
    return (measured, True) if len(measured) else (feasible, False)


def feasible_rows(lattice: Lattice, budgets: Sequence[Budget]) -> np.ndarray:
    """Return the lattice rows within every budget.

    Raises:
        InfeasibleBudgetError: There are none.
        ConfigError: There is no budget.
    """
    if not budgets:
        raise ConfigError("At least one budget is needed, got none: give one, for example macs=50%.")
    is_feasible = np.ones(len(lattice), bool)
    for budget in budgets:
        costs = lattice.costs(budget.metric)
        within = budget.slack(costs) >= 0  # type: ignore[arg-type]
        if not np.any(within):
            share = f" ({costs.min() / costs[0]:.1%} of the base model)"
            raise InfeasibleBudgetError(
                f"A {budget.metric} budget must be at least {costs.min():.6g}{share}, the smallest possible cost of this model, "
                f"got {budget.limit:.6g}: raise the budget.",
                metric=budget.metric,
                smallest=float(costs.min()),
            )
        is_feasible &= within
    if not is_feasible.any():
        limits = " and ".join(f"{b.metric} <= {b.limit:.6g}" for b in budgets)
        raise InfeasibleBudgetError(f"No cut is within {limits} at once, though each alone is possible: raise one of the budgets.")
    return np.flatnonzero(is_feasible)


def solution_at(cuts: PredictedCuts, budgets: Sequence[Budget], levels: Levels) -> Solution:
    """Describe one cut of the lattice as a solution under the budgets."""
    lattice, row = cuts.lattice, cuts.lattice.row(levels)
    costs = {metric: lattice.cost(metric, levels) for metric in lattice.table.costs}
    blocks, width, side_px = lattice.place(levels)
    best = cuts.accuracy[cuts.is_measured].max(initial=0.0)
    unconstrained = "unconstrained" if cuts.accuracy[row] >= best - TIE else "optimal"
    return Solution(
        ratios=lattice.ratios(levels),
        blocks=blocks,
        width=width,
        side_px=side_px,
        predicted_accuracy=float(cuts.accuracy[row]),
        interval=(float(cuts.low[row]), float(cuts.high[row])),
        budgets=tuple(budgets),
        costs=costs,
        binding=min(budgets, key=lambda b: b.slack(costs[b.metric]) / b.limit).metric,
        status=unconstrained if cuts.is_measured[row] else "extrapolated",  # type: ignore[arg-type]
    )


def continuous_optimum(
    predictor: AccuracyPredictor, table: CostTable, budgets: Sequence[Budget], start: KeepRatios
) -> ContinuousOptimum | None:
    """Return the optimum over real keep ratios within the measured domain, or None where the cost model allows no point of it.

    Sequential quadratic programming in y = log x, from `start` and from the middle of the domain; the best is kept.

    Args:
        predictor: From `fit`.
        table: Costs; a posynomial is fitted to each budget's metric.
        budgets: One or more.
        start: A good cut, such as the lattice's.
    """
    models = [(fit_cost(table, budget.metric), budget.limit) for budget in budgets]
    bounds = _bounds(predictor, table)
    starts = (np.log(start.as_tuple()), bounds.mean(axis=1), bounds[:, 0])
    found = [_ascend(predictor, models, np.clip(y, bounds[:, 0], bounds[:, 1]), bounds) for y in starts]
    feasible = [y for y in found if all(np.log(m.cost(np.exp(y)[None])[0] / limit) <= 1e-8 for m, limit in models)]
    if not feasible:
        return None
    y = max(feasible, key=lambda y: float(accuracy(predictor, np.exp(y))[0]))
    return _certificate(predictor, models, y, bounds)


def _bounds(predictor: AccuracyPredictor, table: CostTable) -> Floats:
    """Return the smallest and largest log keep ratio of each axis, shape (3, 2): measured, and possible."""
    rows = []
    for axis in AXES:
        levels = np.array(getattr(table, axis))
        inside = levels[_is_inside(predictor, axis, levels)]
        inside = inside if len(inside) else levels
        rows.append([inside.min(), inside.max()])
    return np.log(rows)


def _ascend(predictor: AccuracyPredictor, models: Sequence[tuple[CostModel, float]], y: Floats, bounds: Floats) -> Floats:
    """Return a local maximum of F over log ratios under the cost models."""
    constraints = [
        {
            "type": "ineq",
            "fun": lambda y, m=model, t=limit: np.log(t / m.cost(np.exp(y)[None])),
            "jac": lambda y, m=model: -m.log_gradient(np.exp(y)[None]),
        }
        for model, limit in models
    ]
    result = optimize.minimize(
        lambda y: -100.0 * accuracy(predictor, np.exp(y))[0],
        y,
        jac=lambda y: -100.0 * gradient(predictor, np.exp(y))[0] * np.exp(y),
        bounds=bounds,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 200},
    )
    return np.clip(result.x, bounds[:, 0], bounds[:, 1])


def _certificate(predictor: AccuracyPredictor, models: Sequence[tuple[CostModel, float]], y: Floats, bounds: Floats) -> ContinuousOptimum:
    """Return the point with its multipliers: the non-negative combination of active gradients nearest to g."""
    x = np.exp(y)
    g = gradient(predictor, x)[0] * x
    names, normals = [], []
    for model, limit in models:
        if abs(np.log(model.cost(x[None])[0] / limit)) < AT_BOUND:
            names.append(model.metric)
            normals.append(model.log_gradient(x[None])[0])
    num_budgets = len(names)
    for a, axis in enumerate(AXES):
        for side, bound, sign in (("min", bounds[a, 0], -1.0), ("max", bounds[a, 1], 1.0)):
            if abs(y[a] - bound) < AT_BOUND:
                names.append(f"{axis}={side}")
                normals.append(sign * np.eye(3)[a])
    weights = optimize.nnls(np.array(normals).T, g)[0] if normals else np.zeros(0)
    residual = g - (np.array(normals).T @ weights if normals else 0.0)
    return ContinuousOptimum(
        ratios=KeepRatios(depth=float(x[0]), width=float(x[1]), resolution=float(x[2])),
        predicted_accuracy=float(accuracy(predictor, x)[0]),
        multiplier=float(weights[:num_budgets].sum()),
        active=tuple(names),
        kkt_residual=float(np.abs(residual).max()),
    )
