from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from triaxis.errors import InfeasibleBudgetError
from triaxis.maths.design import most_telling, next_trial, off_axis, pair_points
from triaxis.maths.fit import fit, predict
from triaxis.maths.solve import solve
from triaxis.study.synthetic import axis_ratios, cnn_cost, measure, random_surface, table_of
from triaxis.values import Budget, KeepRatios

TABLE = table_of(macs=cnn_cost)
QUARTER = [Budget(metric="macs", limit=0.25e6)]
SURFACE = random_surface("capacity", seed=1)
AXIS = measure(SURFACE, axis_ratios(num=2), noise=0.004, seed=1)
PREDICTOR = fit(AXIS)[0]


def _ratios(levels: tuple[int, int, int]) -> tuple[float, float, float]:
    return TABLE.depth[levels[0]], TABLE.width[levels[1]], TABLE.resolution[levels[2]]


def test_pair_points_are_the_corners_of_each_pair_then_the_half_way_points() -> None:
    x = np.array([[d, w, r] for d in (1, 0.7, 0.5) for w in (1, 0.7, 0.5) for r in (1, 0.7, 0.5)])
    chosen = x[pair_points(x, 6)]
    assert chosen[:3].tolist() == [[0.5, 0.5, 1], [0.5, 1, 0.5], [1, 0.5, 0.5]]
    assert chosen[3:].tolist() == [[0.7, 0.7, 1], [0.7, 1, 0.7], [1, 0.7, 0.7]]


def test_pair_points_of_axis_points_are_none() -> None:
    assert pair_points(axis_ratios(), 6) == []


def test_off_axis_trials_without_a_predictor_respect_the_smallest_ratios() -> None:
    found = off_axis(TABLE, None, 3, min_ratios=KeepRatios(depth=0.5, width=0.5, resolution=0.75))
    assert [sum(n > 0 for n in levels) for levels in found] == [2, 2, 2]
    assert _ratios(found[0]) == pytest.approx((5 / 9, 0.5, 1))


def test_off_axis_trials_cut_several_axes_and_differ() -> None:
    found = off_axis(TABLE, PREDICTOR, 4)
    assert len(set(found)) == 4
    assert sum(sum(n > 0 for n in levels) > 1 for levels in found) >= 3
    for levels in found:
        assert min(_ratios(levels)[0] - 4 / 9, _ratios(levels)[1] - 0.375, _ratios(levels)[2] - 0.5) > -0.01


def test_no_point_is_chosen_twice() -> None:
    """Where measurements are so noisy that one changes nothing, a second at the same place would look as good."""
    deaf = dataclasses.replace(PREDICTOR, noise=10.0)
    assert sorted(most_telling(deaf, axis_ratios()[:3], 3)) == [0, 1, 2]


def test_the_most_telling_point_lowers_the_variance_more_than_others_when_really_measured() -> None:
    x = np.array([TABLE.depth[::2], TABLE.width[:5], TABLE.resolution[:5]])
    grid = np.stack(np.meshgrid(*[row[row >= 0.45] for row in x], indexing="ij"), -1).reshape(-1, 3)
    best = most_telling(PREDICTOR, grid, 1)[0]

    def width_after(row: int) -> float:
        informed, _ = fit([*AXIS, *measure(SURFACE, grid[[row]])])
        found = predict(informed, grid)
        return float(np.mean((found.high - found.low) ** 2))

    others = [width_after(row) for row in range(0, len(grid), 9)]
    assert width_after(best) < np.median(others)


def test_the_next_trial_is_where_the_optimum_may_be_and_is_not_measured_twice() -> None:
    first = next_trial(PREDICTOR, TABLE, QUARTER)
    again = next_trial(PREDICTOR, TABLE, QUARTER, measured=[first.levels])
    assert again.levels != first.levels
    assert first.is_worth_it
    assert first.expected_gain > 0
    assert again.expected_gain > 0
    assert again.regret_bound == first.regret_bound


def test_trials_go_on_until_the_bound_is_within_the_noise_and_the_answer_is_then_good() -> None:
    points, taken = list(AXIS), []
    for n in range(10):
        predictor, _ = fit(points)
        found = next_trial(predictor, TABLE, QUARTER, measured=taken)
        if not found.is_worth_it:
            break
        taken.append(found.levels)
        points += measure(SURFACE, np.array([_ratios(found.levels)]), noise=0.004, seed=n)
    assert not found.is_worth_it
    assert 0 < len(taken) < 10
    chosen = solve(predictor, TABLE, QUARTER, with_continuous=False)
    x = np.array([[d, w, r] for d in TABLE.depth for w in TABLE.width for r in TABLE.resolution])
    allowed = np.array([cnn_cost(*row) for row in x]) <= 0.25e6
    regret = SURFACE(x[allowed]).max() - SURFACE(np.array([chosen.ratios.as_tuple()]))[0]
    assert regret < found.noise_width


def test_certain_predictors_need_no_trial() -> None:
    certain, _ = fit(measure(SURFACE, axis_ratios(), noise=0.0), kind="polynomial")
    generous = next_trial(certain, TABLE, [Budget(metric="macs", limit=1e6)])
    assert not generous.is_worth_it


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(InfeasibleBudgetError):
        next_trial(PREDICTOR, TABLE, [Budget(metric="macs", limit=1.0)])
