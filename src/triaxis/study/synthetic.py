"""Accuracy surfaces and cost tables whose answers are known, for benchmarks and tests.

Notation:
    x    keep ratios (d, w, r)                              shape (n, 3)
    e0   error of the base model;  B_a  error added by axis a alone, a power law b_a (x_a^-p - 1) / (low_a^-p - 1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from triaxis.maths.polynomial import Floats
from triaxis.values import CostTable, KeepRatios, Point

Kind = Literal["product", "additive", "power", "capacity", "logistic"]
KINDS: tuple[Kind, ...] = ("product", "additive", "power", "capacity", "logistic")
Cost = Callable[[float, float, float], float]


@dataclass(frozen=True)
class Surface:
    """A true accuracy surface. Calling it gives F, shape (n,).

    `kind` says how the axes combine: "product" of accuracies (the paper's rank 1), "additive" errors, "power" (errors
    multiply), "capacity" (depth and width multiply above a floor, resolution adds), "logistic" (odds multiply).
    """

    kind: Kind
    base_error: float
    low: tuple[float, float, float]
    losses: tuple[float, float, float]
    exponents: tuple[float, float, float]
    floor: float = 0.0

    def __call__(self, x: Floats) -> Floats:
        """Return the true accuracies at keep ratios of shape (n, 3)."""
        low, p, e0 = np.array(self.low), np.array(self.exponents), self.base_error
        growth = np.array(self.losses) * (np.asarray(x, float) ** -p - 1) / (low**-p - 1)
        if self.kind == "product":
            return (1 - e0) * np.prod(1 - growth / (1 - e0), axis=1)
        if self.kind == "additive":
            return 1 - e0 - growth.sum(axis=1)
        if self.kind == "logistic":
            odds = (e0 + growth) / (1 - e0 - growth)
            return 1 / (1 + np.prod(odds, axis=1) / (e0 / (1 - e0)) ** 2)
        factors = 1 + growth / e0
        if self.kind == "power":
            return np.maximum(1 - e0 * np.prod(factors, axis=1), 0.0)
        above = e0 - self.floor
        return np.maximum(1 - self.floor - above * factors[:, 0] * factors[:, 1] - growth[:, 2], 0.0)


def random_surface(kind: Kind, seed: int) -> Surface:
    """Draw a surface: base errors of 2 to 30 %, losses of 0.3 to 3 base errors on each axis, from slow to steep power laws."""
    rng = np.random.default_rng(seed)
    low = (float(rng.uniform(0.11, 0.5)), float(rng.uniform(0.3, 0.6)), 0.5)
    base_error = float(np.exp(rng.uniform(np.log(0.02), np.log(0.3))))
    losses = np.minimum(base_error * np.exp(rng.uniform(np.log(0.3), np.log(3), 3)), 0.25)
    exponents = rng.uniform(-0.5, 3, 3)
    return Surface(
        kind=kind,
        base_error=base_error,
        low=low,
        losses=(float(losses[0]), float(losses[1]), float(losses[2])),
        exponents=(float(exponents[0]), float(exponents[1]), float(exponents[2])),
        floor=float(rng.uniform(0, 0.8)) * base_error,
    )


def separable(x: Floats) -> Floats:
    """A product of three cubics, which the paper's predictor of rank 1 and degree 3 can describe exactly."""
    d, w, r = 1 - np.asarray(x, float).T
    return 0.93 * (1 - 0.02 * d - 0.09 * d**3) * (1 - 0.03 * w - 0.1 * w**2) * (1 - 0.02 * r - 0.05 * r**2 - 0.1 * r**3)


def axis_ratios(low: tuple[float, float, float] = (4 / 9, 0.375, 0.5), num: int = 4) -> Floats:
    """Return the base model and `num` evenly spaced points on each axis, shape (1 + 3 num, 3)."""
    rows = [np.ones(3)]
    for a in range(3):
        for ratio in np.linspace(1, low[a], num + 1)[1:]:
            row = np.ones(3)
            row[a] = ratio
            rows.append(row)
    return np.array(rows)


def measure(surface: Callable[[Floats], Floats], ratios: Floats, noise: float = 0.0, seed: int = 0) -> list[Point]:
    """Return points of the surface with Gaussian noise of the given standard deviation, clipped to [0, 1]."""
    accuracies = np.clip(surface(ratios) + noise * np.random.default_rng(seed).normal(size=len(ratios)), 0, 1)
    rows = zip(np.asarray(ratios, float).tolist(), accuracies.tolist(), strict=True)
    return [Point(ratios=KeepRatios(depth=d, width=w, resolution=r), accuracy=y) for (d, w, r), y in rows]


def paper_cost(d: float, w: float, r: float) -> float:
    """The paper's d w^2 r^2, in MACs of a base model of a million."""
    return 1e6 * d * w**2 * r**2


def cnn_cost(d: float, w: float, r: float) -> float:
    """MACs of a stem, a head that blocks do not reach, and blocks."""
    return 1e6 * r**2 * (0.05 * w + 0.1 * w**2 + 0.85 * d * w**2)


def cnn_params(d: float, w: float, r: float) -> float:
    """Params of the same network; the resolution costs none."""
    return 1e5 * (0.02 * w + w**2 * (0.18 + 0.8 * d))


def table_of(**formulas: Cost) -> CostTable:
    """Return a lattice of 9 blocks, 11 widths and 17 sides, priced by one formula of (d, w, r) for each metric."""
    depth = tuple(n / 9 for n in range(9, 0, -1))
    width = tuple(n / 16 for n in range(16, 5, -1))
    sides = tuple(range(32, 15, -1))
    resolution = tuple(px / 32 for px in sides)
    costs = {
        metric: tuple(tuple(tuple(formula(d, w, r) for r in resolution) for w in width) for d in depth)
        for metric, formula in formulas.items()
    }
    return CostTable(
        blocks=tuple(range(9, 0, -1)), widths=width, sides_px=sides, depth=depth, width=width, resolution=resolution, costs=costs
    )
