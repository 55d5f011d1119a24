from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize

from triaxis.errors import ConfigError, InfeasibleBudgetError
from triaxis.maths.fit import fit, gradient, predict
from triaxis.maths.solve import candidates, continuous_optimum, solve
from triaxis.study.synthetic import axis_ratios, cnn_cost, cnn_params, measure, paper_cost, separable, table_of
from triaxis.values import AXES, AccuracyPredictor, Budget, CostTable, KeepRatios

PAPER = table_of(macs=paper_cost)
REAL = table_of(macs=cnn_cost, params=cnn_params)


def product(factors: tuple[list[float], list[float], list[float]], low: float | tuple[float, float, float] = 0.01) -> AccuracyPredictor:
    """F = 0.9 times three polynomials in x - 1, each given by its coefficients after the leading 1."""
    coefficients = [0.9, *(0.9 * c for c in factors[0]), 1.0, *factors[1], 1.0, *factors[2]]
    bounds = low if isinstance(low, tuple) else (low, low, low)
    return AccuracyPredictor(
        kind="polynomial",
        degree=max(map(len, factors)),
        rank=1,
        degrees=(len(factors[0]), len(factors[1]), len(factors[2])),
        coefficients=tuple(coefficients),
        covariance=((0.0,) * len(coefficients),) * len(coefficients),
        noise=0.01,
        quantile=2.0,
        domain={axis: (bound, 1.0) for axis, bound in zip(AXES, bounds, strict=True)},
        num_points=13,
    )


def linear_product(slopes: tuple[float, float, float], low: float | tuple[float, float, float] = 0.01) -> AccuracyPredictor:
    """F = 0.9 times three lines 1 + slope (x - 1); a slope of 1 makes the factor x itself."""
    return product(([slopes[0]], [slopes[1]], [slopes[2]]), low)


def fitted(kind: str = "polynomial", noise: float = 0.0) -> AccuracyPredictor:
    return fit(measure(separable, axis_ratios(), noise), kind=kind)[0]


def brute_force(predictor: AccuracyPredictor, table: CostTable, is_allowed: Callable[[tuple[int, int, int]], bool]) -> float:
    """The best predicted accuracy, one cut at a time."""
    best = -1.0
    for i, j, k in itertools.product(range(len(table.depth)), range(len(table.width)), range(len(table.resolution))):
        x = (table.depth[i], table.width[j], table.resolution[k])
        measured = all(predictor.domain[axis][0] - 0.005 <= ratio for axis, ratio in zip(AXES, x, strict=True))
        if measured and is_allowed((i, j, k)):
            best = max(best, float(predict(predictor, x).accuracy[0]))
    return best


@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.3, 0.12])
@pytest.mark.parametrize("kind", ["polynomial", "growth"])
def test_lattice_optimum_is_brute_force(kind: str, fraction: float) -> None:
    predictor = fitted(kind, noise=0.002)
    budget = Budget(metric="macs", limit=fraction * 1e6)
    found = solve(predictor, REAL, [budget], with_continuous=False)
    best = brute_force(predictor, REAL, lambda n: REAL.costs["macs"][n[0]][n[1]][n[2]] <= budget.limit)
    assert found.predicted_accuracy == pytest.approx(best, abs=1e-9)
    assert found.costs["macs"] <= budget.limit
    assert found.slack >= 0


def test_two_budgets_hold_at_once_and_the_tighter_one_binds() -> None:
    predictor = fitted()
    budgets = [Budget(metric="macs", limit=6e5), Budget(metric="params", limit=4e4)]
    found = solve(predictor, REAL, budgets)
    best = brute_force(predictor, REAL, lambda n: all(REAL.costs[b.metric][n[0]][n[1]][n[2]] <= b.limit for b in budgets))
    assert found.predicted_accuracy == pytest.approx(best, abs=1e-9)
    assert all(b.slack(found.costs[b.metric]) >= 0 for b in budgets)
    assert found.binding == "params"
    assert found.continuous is not None
    assert "params" in found.continuous.active


def test_continuous_optimum_of_powers_has_a_closed_form() -> None:
    """F = 0.9 d w r: cutting width or resolution saves twice as much per accuracy as depth, so depth stays whole."""
    predictor = linear_product((1.0, 1.0, 1.0))
    budget = Budget(metric="macs", limit=0.25e6)
    found = continuous_optimum(predictor, PAPER, [budget], KeepRatios())
    assert found is not None
    assert found.ratios.depth == pytest.approx(1.0, abs=1e-6)
    assert found.ratios.width * found.ratios.resolution == pytest.approx(0.5, rel=1e-6)
    assert found.predicted_accuracy == pytest.approx(0.45, abs=1e-7)
    assert found.multiplier == pytest.approx(0.45 / 2, abs=1e-5)
    assert found.kkt_residual < 1e-6


def test_interior_optimum_gains_equally_on_every_axis() -> None:
    """The paper's condition, d F_d = w F_w / 2 = r F_r / 2, against its solution by bisection in one unknown."""
    predictor = product(([0.0, -0.1], [0.0, -0.6], [0.0, -0.6]))
    found = continuous_optimum(predictor, PAPER, [Budget(metric="macs", limit=0.4e6)], KeepRatios())
    assert found is not None
    x = np.array(found.ratios.as_tuple())
    gains = gradient(predictor, x)[0] * x / [1, 2, 2]
    assert found.active == ("macs",)
    assert np.allclose(gains, found.multiplier, atol=1e-6)

    def imbalance(d: float) -> float:
        side = (0.4 / d) ** 0.25
        gain_depth = 0.2 * d * (1 - d) / (1 - 0.1 * (1 - d) ** 2)
        return float(gain_depth - 1.2 * side * (1 - side) / (1 - 0.6 * (1 - side) ** 2) / 2)

    depth = optimize.bisect(imbalance, 0.45, 0.99)
    side = (0.4 / depth) ** 0.25
    assert x == pytest.approx([depth, side, side], abs=1e-5)


def test_continuous_optimum_is_at_least_the_lattices_where_the_cost_model_is_exact() -> None:
    predictor = fitted()
    for fraction in (0.7, 0.4, 0.2):
        found = solve(predictor, REAL, [Budget(metric="macs", limit=fraction * 1e6)])
        assert found.continuous is not None
        assert found.continuous.kkt_residual < 1e-6
        assert found.continuous.predicted_accuracy >= found.predicted_accuracy - 1e-9
        assert found.continuous.predicted_accuracy - found.predicted_accuracy < 0.01


def test_of_equally_good_cuts_the_cheapest_is_taken() -> None:
    flat = linear_product((0.0, 0.0, 0.5))
    found = solve(flat, PAPER, [Budget(metric="macs", limit=1e6)])
    assert (found.blocks, found.width, found.side_px) == (1, 6 / 16, 32)
    assert found.status == "unconstrained"


def test_a_generous_budget_is_unconstrained_and_keeps_the_base_model() -> None:
    found = solve(linear_product((0.2, 0.2, 0.2)), REAL, [Budget(metric="macs", limit=2e6)])
    assert found.ratios == KeepRatios()
    assert found.status == "unconstrained"
    assert found.continuous is not None
    assert found.continuous.active == ("depth=max", "width=max", "resolution=max")


def test_below_the_measured_domain_only_when_nothing_else_fits() -> None:
    predictor = linear_product((0.2, 0.4, 0.4), low=(0.5, 0.5, 0.75))
    inside = solve(predictor, PAPER, [Budget(metric="macs", limit=0.2e6)])
    assert inside.status == "optimal"
    assert min(inside.ratios.depth - 0.5, inside.ratios.width - 0.5, inside.ratios.resolution - 0.75) >= -0.005
    beyond = solve(predictor, PAPER, [Budget(metric="macs", limit=0.02e6)])
    assert beyond.status == "extrapolated"
    assert beyond.continuous is None
    assert beyond.costs["macs"] <= 0.02e6


def test_candidates_fall_in_accuracy_and_start_with_the_solution() -> None:
    budget = Budget(metric="macs", limit=0.5e6)
    found = candidates(fitted(), REAL, [budget], num=8)
    accuracies = [solution.predicted_accuracy for solution in found]
    assert len(found) == 8
    assert accuracies == sorted(accuracies, reverse=True)
    assert found[0] == solve(fitted(), REAL, [budget], with_continuous=False)
    assert all(solution.slack >= 0 for solution in found)


def test_an_impossible_budget_names_the_smallest_possible_cost() -> None:
    smallest = REAL.costs["macs"][-1][-1][-1]
    with pytest.raises(InfeasibleBudgetError, match=f"at least {smallest:.6g}"):
        solve(fitted(), REAL, [Budget(metric="macs", limit=0.9 * smallest)])
    exactly = solve(fitted(), REAL, [Budget(metric="macs", limit=smallest)])
    assert exactly.slack == 0


def test_a_missing_metric_and_no_budget_are_named() -> None:
    with pytest.raises(ConfigError, match="no latency_ms costs"):
        solve(fitted(), REAL, [Budget(metric="latency_ms", limit=1.0)])
    with pytest.raises(ConfigError, match="At least one budget"):
        solve(fitted(), REAL, [])
