"""A smooth cost model for the continuous problem, fitted to costs that were counted or measured on real cuts.

Notation:
    x   keep ratios (d, w, r)                       shape (n, 3)
    C   C(x) = base cost * sum over m of a[m] d^p[m,0] w^p[m,1] r^p[m,2]
    a   coefficients, 0 or more                     shape (m,)
    p   exponents, 0, 1 or 2 each                   shape (m, 3)

With a >= 0 this is a posynomial: positive, rising on every axis, and convex in log x. The paper's d w^2 r^2 is one of
its terms; stems, heads, first layers of stages and the growing inputs of dense layers (d^2) make up the others.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from triaxis.maths.lattice import Lattice
from triaxis.maths.polynomial import Floats
from triaxis.values import CostTable

EXPONENTS = np.array(list(itertools.product((0, 1, 2), repeat=3)), float)


@dataclass(frozen=True)
class CostModel:
    """C(x) with its relative errors over the table's lattice."""

    metric: str
    base_cost: float
    coefficients: Floats
    max_relative_error: float
    mean_relative_error: float

    def cost(self, x: Floats) -> Floats:
        """Return C, shape (n,), in the metric's unit, for keep ratios of shape (n, 3)."""
        return self.base_cost * (posynomial_terms(x) @ self.coefficients)

    def log_gradient(self, x: Floats) -> Floats:
        """Return d log C / d log x, shape (n, 3): by how many per cent the cost falls for 1 % off each axis."""
        terms = posynomial_terms(x) * self.coefficients
        return (terms @ EXPONENTS) / terms.sum(axis=1, keepdims=True)


def fit_cost(table: CostTable, metric: str) -> CostModel:
    """Fit C to one metric of the table by non-negative least squares on relative errors.

    Args:
        table: Costs on the lattice.
        metric: One that the table has.

    Raises:
        ConfigError: The table has no such metric.
    """
    lattice = Lattice(table)
    costs = lattice.costs(metric)
    relative = posynomial_terms(lattice.x) * (costs[0] / costs)[:, None]
    coefficients, _ = optimize.nnls(relative, np.ones(len(costs)))
    errors = np.abs(relative @ coefficients - 1.0)
    return CostModel(metric, float(costs[0]), coefficients, float(errors.max()), float(errors.mean()))


def posynomial_terms(x: Floats) -> Floats:
    """Return d^p w^p r^p for each row and exponent triple, shape (n, m)."""
    return np.prod(np.asarray(x, float)[:, None, :] ** EXPONENTS, axis=2)
