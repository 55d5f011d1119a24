"""Solve, from a run's records alone: the best cut, and the frontier. Imports no torch, so that an answer takes no time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triaxis.maths.frontier import frontier
from triaxis.maths.solve import solve
from triaxis.store.base import Store
from triaxis.values import BudgetSpec, CostTable, Solution

if TYPE_CHECKING:
    pass
from triaxis.stages.fit import needed, read_predictor


def read_cost_table(store: Store) -> CostTable:
    """Return the cost of every cut that the run can make.

    Raises:
        StoreError: The run has not counted them yet.
    """
    return CostTable.from_json(needed(store, "cost_table", "costs", "collect"))


def solve_run(store: Store, specs: Sequence[BudgetSpec]) -> Solution:
    """Return the best cut within every budget, from what is stored; no network is touched.

    Raises:
        InfeasibleBudgetError: No cut is cheap enough.
        ConfigError: The run has no costs in a budget's metric.
        StoreError: The run has no costs or no predictor yet.
    """
    table = read_cost_table(store)
    predictor, _ = read_predictor(store)
    budgets = tuple(spec.resolve(table.base_cost(spec.metric)) for spec in specs)
    return solve(predictor, table, budgets)


def frontier_run(store: Store, metric: str, num: int = 50) -> tuple[Solution, ...]:
    """Return the best cut at each of `num` budgets, from the base model's cost down to the smallest possible.

    Raises:
        ConfigError: The run has no costs in this metric.
        StoreError: The run has no costs or no predictor yet.
    """
    table = read_cost_table(store)
    table.base_cost(metric)
    predictor, _ = read_predictor(store)
    return frontier(predictor, table, metric, num)
