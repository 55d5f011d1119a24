"""Which cut an elastic training trains at each step, and which it is asked about afterwards.

Notation:
    c        cost of a cut over the base model's, in MACs                          shape (n,), rows as in `lattice`
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from triaxis.maths.lattice import Lattice, Levels
from triaxis.values import CostTable, KeepRatios

NEAR_BUDGET = (0.5, 1.05)
"""Cuts between these shares of a budget are trained more often than others."""

SHARE_NEAR = 0.5
"""Share of the draws that are near a budget."""


def draws(table: CostTable, effort: float, *, min_ratios: KeepRatios, near: Sequence[np.ndarray] = (), seed: int = 0) -> list[Levels]:
    """Draw one cut for each step until their MACs together reach an effort.

    Half of the draws are uniform over the lattice's levels, half near the budgets (all, where there is none).

    Args:
        table: The lattice.
        effort: Sum of the drawn cuts' MACs over the base model's, so an effort of 1 is one step of the base model.
        min_ratios: Smallest keep ratios to draw.
        near: For each budget, the lattice rows near it, from `rows_near`.
        seed: Of the draws.

    Returns:
        For each step, the levels of its cut; at least one step.
    """
    generator = np.random.default_rng(seed)
    lattice = Lattice(table)
    rows, share = lattice.rows_above(min_ratios), lattice.shares("macs")
    pools = [pool for pool in near if len(pool)]
    steps: list[Levels] = []
    spent = 0.0
    while True:
        row = _draw(generator, rows, pools)
        spent += float(share[row])
        if steps and spent > effort:
            return steps
        steps.append(lattice.levels(row))


def rows_near(table: CostTable, costs_and_limits: Sequence[tuple[str, float]], *, min_ratios: KeepRatios) -> np.ndarray:
    """Return the lattice rows whose every cost is within its limit, and one of them not far below it.

    Args:
        table: The lattice.
        costs_and_limits: For each metric its limit; all hold together.
        min_ratios: Smallest keep ratios.
    """
    lattice = Lattice(table)
    rows = lattice.rows_above(min_ratios)
    used = np.array([lattice.costs(metric)[rows] / limit for metric, limit in costs_and_limits]).max(axis=0)
    return rows[(used >= NEAR_BUDGET[0]) & (used <= NEAR_BUDGET[1])]


def spread(table: CostTable, num: int, *, min_ratios: KeepRatios, seed: int = 0) -> list[Levels]:
    """Return about `num` cuts that fill the lattice evenly in log keep ratios, the base model and its corners among them.

    Args:
        table: The lattice.
        num: How many; fewer where the lattice has not as many.
        min_ratios: Smallest keep ratios.
        seed: Of the quasi-random sequence.
    """
    lattice = Lattice(table)
    rows = lattice.rows_above(min_ratios)
    x = -np.log(lattice.x[rows])
    scaled = x / np.maximum(x.max(axis=0), 1e-12)
    corners = np.array([(a, b, c) for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0)])
    wanted = np.vstack([corners, qmc.Sobol(3, seed=seed).random(1 << max(4, (2 * num).bit_length()))])
    chosen: list[int] = []
    for point in wanted:
        if len(chosen) == min(num, len(rows)):
            break
        nearest = int(np.argmin(np.sum((scaled - point) ** 2, axis=1)))
        if nearest not in chosen:
            chosen.append(nearest)
    return [lattice.levels(int(rows[n])) for n in chosen]


def _draw(generator: np.random.Generator, rows: np.ndarray, pools: list[np.ndarray]) -> int:
    pool = rows
    if pools and generator.random() < SHARE_NEAR:
        pool = pools[generator.integers(len(pools))]
    return int(pool[generator.integers(len(pool))])


def mean_cost(table: CostTable, steps: Sequence[Levels]) -> float:
    """Return the mean MACs of the steps' cuts, over the base model's."""
    lattice = Lattice(table)
    return float(np.mean(lattice.costs("macs")[lattice.rows(steps)]) / table.base_cost("macs"))
