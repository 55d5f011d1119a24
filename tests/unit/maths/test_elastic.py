"""Draws of an elastic training: their effort is what was asked for, and half of them are near the budget."""

from __future__ import annotations

import numpy as np
import pytest

from triaxis.maths.elastic import draws, mean_cost, rows_near, spread
from triaxis.maths.lattice import Lattice
from triaxis.study.synthetic import cnn_cost, table_of
from triaxis.values import KeepRatios

TABLE = table_of(macs=cnn_cost)
LOW = KeepRatios(depth=0.4, width=0.3, resolution=0.5)
LATTICE = Lattice(TABLE)
SHARE = LATTICE.shares("macs")


def share(levels: tuple[int, int, int]) -> float:
    i, j, k = levels
    return TABLE.costs["macs"][i][j][k] / TABLE.base_cost("macs")


def test_draws_use_up_the_effort_and_no_more() -> None:
    steps = draws(TABLE, 100.0, min_ratios=LOW, seed=3)
    spent = sum(share(levels) for levels in steps)
    assert 99 <= spent <= 100
    assert mean_cost(TABLE, steps) == pytest.approx(spent / len(steps))
    assert steps == draws(TABLE, 100.0, min_ratios=LOW, seed=3)
    assert steps != draws(TABLE, 100.0, min_ratios=LOW, seed=4)


def test_half_of_the_draws_are_near_the_budget() -> None:
    limit = 0.25 * TABLE.base_cost("macs")
    near = rows_near(TABLE, [("macs", limit)], min_ratios=LOW)
    assert len(near) and np.all((SHARE[near] <= 0.2625) & (SHARE[near] >= 0.125))
    steps = draws(TABLE, 400.0, min_ratios=LOW, near=[near])
    of_all = np.mean((SHARE[rows := LATTICE.rows_above(LOW)] <= 0.2625) & (SHARE[rows] >= 0.125))
    found = np.mean([0.125 <= share(step) <= 0.2625 for step in steps])
    assert found == pytest.approx(0.5 + 0.5 * of_all, abs=0.04)


def test_the_smallest_effort_still_trains_one_step() -> None:
    assert len(draws(TABLE, 1e-9, min_ratios=LOW)) == 1


def test_cuts_to_ask_about_hold_the_corners_and_stay_above_the_smallest_ratios() -> None:
    chosen = spread(TABLE, 30, min_ratios=LOW)
    x = LATTICE.x
    rows = LATTICE.rows(chosen).tolist()
    assert len(set(rows)) == 30 and set(rows) <= set(LATTICE.rows_above(LOW).tolist())
    low = x[LATTICE.rows_above(LOW)].min(axis=0)
    for corner in ((1, 1, 1), (low[0], 1, 1), (1, low[1], 1), (1, 1, low[2]), tuple(low)):
        assert any(np.allclose(x[row], corner) for row in rows)
