from __future__ import annotations

import time

import numpy as np
import pytest

from triaxis.errors import InfeasibleBudgetError
from triaxis.maths.fit import fit
from triaxis.maths.frontier import compound, equal_split, frontier, single_axis
from triaxis.maths.solve import solve
from triaxis.study.synthetic import axis_ratios, cnn_cost, measure, paper_cost, separable, table_of
from triaxis.values import Budget

REAL = table_of(macs=cnn_cost)
PAPER = table_of(macs=paper_cost)
PREDICTOR = fit(measure(separable, axis_ratios(), 0.002))[0]


def test_every_point_of_the_frontier_is_what_solve_answers() -> None:
    found = frontier(PREDICTOR, REAL, "macs", num=25)
    for point in found[1:]:
        alone = solve(PREDICTOR, REAL, point.budgets, with_continuous=False)
        assert alone.predicted_accuracy == pytest.approx(point.predicted_accuracy, abs=1e-11)
        assert alone.costs == point.costs


def test_fifty_budgets_take_under_a_second_and_accuracy_never_falls() -> None:
    start = time.perf_counter()
    found = frontier(PREDICTOR, REAL, "macs")
    assert time.perf_counter() - start < 1.0
    assert len(found) == 50
    assert np.all(np.diff([point.predicted_accuracy for point in found]) >= 0)
    assert found[-1].budgets[0].fraction == 1.0
    assert all(point.slack >= 0 for point in found)


def test_single_axis_leaves_the_other_two_alone_and_is_never_better() -> None:
    budget = Budget(metric="macs", limit=0.5e6)
    best = solve(PREDICTOR, REAL, [budget], with_continuous=False)
    found = single_axis(PREDICTOR, REAL, [budget])
    for axis, solution in found.items():
        assert solution is not None
        others = [getattr(solution.ratios, other) for other in found if other != axis]
        assert others == [1.0, 1.0]
        assert solution.slack >= 0
        assert solution.predicted_accuracy <= best.predicted_accuracy
    tight = single_axis(PREDICTOR, REAL, [Budget(metric="macs", limit=0.16e6)])
    assert tight["resolution"] is None
    assert tight["width"] is not None
    assert set(single_axis(PREDICTOR, REAL, [Budget(metric="macs", limit=1.0)]).values()) == {None}


@pytest.mark.parametrize("arm", [equal_split, compound])
@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25, 0.1, 0.03])
def test_comparison_arms_are_within_budget_and_near_it(arm: object, fraction: float) -> None:
    i, j, k = arm(PAPER, Budget(metric="macs", limit=fraction * 1e6))  # type: ignore[operator]
    cost = PAPER.costs["macs"][i][j][k]
    assert 0.5 * fraction * 1e6 <= cost <= fraction * 1e6


def test_equal_split_is_the_formula_where_the_lattice_has_it() -> None:
    i, j, k = equal_split(PAPER, Budget(metric="macs", limit=0.5e6))
    assert PAPER.depth[i] == pytest.approx(0.5 ** (1 / 3), abs=1 / 9)
    assert PAPER.width[j] == pytest.approx(0.5 ** (1 / 6), abs=1 / 16)
    assert PAPER.resolution[k] == pytest.approx(0.5 ** (1 / 6), abs=1 / 32)
    assert equal_split(PAPER, Budget(metric="macs", limit=1e6)) == (0, 0, 0)


def test_comparison_arms_refuse_an_impossible_budget() -> None:
    with pytest.raises(InfeasibleBudgetError):
        equal_split(PAPER, Budget(metric="macs", limit=1.0))
