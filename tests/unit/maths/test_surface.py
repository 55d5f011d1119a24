"""Costs of all cuts from those of a few: exact where they were measured, and near where counted costs jump."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from triaxis.maths.lattice import Lattice
from triaxis.maths.surface import relative_errors, surface
from triaxis.testing import FakeTrainer
from triaxis.values import CostTable


def _stepped(table: CostTable, jump: float) -> CostTable:
    """A table in which every second width costs so much more than its neighbours, as rounded channel counts do."""
    cube = np.array(table.costs["macs"])
    cube[:, 1::2] *= 1 + jump
    stepped = tuple(tuple(tuple(row) for row in plane) for plane in cube.tolist())
    return dataclasses.replace(table, costs={**table.costs, "macs": stepped})


@pytest.fixture(scope="module")
def table() -> CostTable:
    return _stepped(FakeTrainer().cost_table(), 0.15)


def _latency(table: CostTable) -> np.ndarray:
    """A latency over the base model's: work, memory traffic and a fixed share for each block."""
    d, w, r = Lattice(table).x.T
    cost = 0.6 * Lattice(table).shares("macs") + 0.2 * (d * w * r**2) ** 0.9 + 0.15 * d + 0.05
    return (cost / cost[0]).reshape(len(table.blocks), len(table.widths), len(table.sides_px))


@pytest.fixture(scope="module")
def grid(table: CostTable) -> list[list[int]]:
    levels = (len(table.blocks), len(table.widths), len(table.sides_px))
    return [sorted({round(x) for x in np.linspace(0, n - 1, min(n, num))}) for n, num in zip(levels, (3, 5, 3), strict=True)]


def test_measured_cuts_keep_their_cost(table, grid) -> None:
    true = _latency(table)
    found = {levels: float(true[levels]) * (1.05 if sum(levels) % 2 else 0.97) for levels in itertools.product(*grid)}
    made = surface(table, grid, found)
    assert [made[levels] for levels in found] == pytest.approx(list(found.values()))


def test_counted_costs_explain_the_jumps_between_measured_widths(table, grid) -> None:
    true = _latency(table)
    found = {levels: float(true[levels]) for levels in itertools.product(*grid)}
    others = {tuple(levels): float(true[levels]) for levels in np.ndindex(true.shape) if levels not in found}
    blind = dataclasses.replace(table, costs={"macs": FakeTrainer().cost_table().costs["macs"]})
    median, tail = relative_errors(surface(table, grid, found), others)
    assert median < 0.005 and tail < 0.02
    assert relative_errors(surface(blind, grid, found), others)[1] > 2 * tail


def test_a_cut_beside_the_grid_corrects_what_is_near_it(table, grid) -> None:
    true = _latency(table)
    on_grid = {levels: float(true[levels]) for levels in itertools.product(*grid)}
    extra = next(levels for levels in np.ndindex(true.shape) if levels not in on_grid)
    made = surface(table, grid, on_grid | {extra: 1.3 * float(true[extra])})
    assert made[extra] == pytest.approx(1.3 * true[extra])
    assert [made[levels] for levels in on_grid] == pytest.approx(list(on_grid.values()))


def test_a_cut_that_could_not_be_measured_is_predicted(table, grid) -> None:
    true = _latency(table)
    found = {levels: float(true[levels]) for levels in itertools.product(*grid)}
    refused = list(found)[len(found) // 2]
    del found[refused]
    assert surface(table, grid, found)[refused] == pytest.approx(true[refused], rel=0.05)
