"""The shapes that an accuracy predictor can take: F(x; c) with its derivatives by c and by x.

Notation:
    x   keep ratios (depth, width, resolution)      shape (n, 3)
    c   coefficients                                shape (p,)
    R   rank; K_a degree of axis a                  a = depth, width, resolution
    H   univariate polynomial, see polynomial.py

Source: Wang et al., ICML 2021, supplement, eq. 1: F(d, w, r) = sum over q = 1..R of H(d; s_q) H(w; u_q) H(r; v_q).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from triaxis.maths.polynomial import Floats, derivative, powers


class Form(Protocol):
    """A family of functions F(x; c)."""

    @property
    def num_coefficients(self) -> int:
        """p."""

    def value(self, c: Floats, x: Floats) -> Floats:
        """Return F, shape (n,)."""

    def jacobian(self, c: Floats, x: Floats) -> Floats:
        """Return dF/dc, shape (n, p)."""

    def gradient(self, c: Floats, x: Floats) -> Floats:
        """Return dF/dx, shape (n, 3)."""


@dataclass(frozen=True)
class ProductForm:
    """The paper's predictor: a sum of `rank` products of three polynomials (eq. 1; eq. 2 at rank 1).

    c holds, for each term, the coefficients of H(d), H(w) and H(r) in turn.
    """

    degrees: tuple[int, int, int]
    rank: int = 1

    @property
    def num_coefficients(self) -> int:
        """R times the sum of K_a + 1."""
        return self.rank * (sum(self.degrees) + 3)

    @property
    def num_free(self) -> int:
        """Two scales of each term are redundant: R (K_d + K_w + K_r + 1)."""
        return self.rank * (sum(self.degrees) + 1)

    def _split(self, c: Floats) -> list[list[Floats]]:
        edges = np.cumsum([degree + 1 for degree in self.degrees])[:-1]
        return [np.split(term, edges) for term in np.reshape(c, (self.rank, -1))]

    def _factors(self, c: Floats, x: Floats) -> tuple[list[Floats], Floats]:
        """Return the powers of each axis, and the factors H with shape (R, 3, n)."""
        columns = [powers(x[:, a], degree) for a, degree in enumerate(self.degrees)]
        return columns, np.array([[columns[a] @ h for a, h in enumerate(term)] for term in self._split(c)])

    def start(self, x: Floats, y: Floats, weight: Floats) -> list[Floats]:
        """Return the constant mean, with terms beyond the first bent along one pair of axes each."""
        first = [np.eye(degree + 1)[0] for degree in self.degrees]
        mean = np.concatenate([first[0] * np.average(y, weights=weight), first[1], first[2]])
        if self.rank == 1:
            return [mean]
        return [np.concatenate([mean, *(self._bent(pair, q) for q in range(1, self.rank))]) for pair in ((0, 1), (0, 2), (1, 2))]

    def _bent(self, pair: tuple[int, int], q: int) -> Floats:
        """Return a term that is a product of slopes on two axes and constant on the third; `q` tells terms apart."""
        slope = [np.eye(degree + 1)[min(1, degree)] if a in pair else np.eye(degree + 1)[0] for a, degree in enumerate(self.degrees)]
        return np.concatenate([slope[0] * 0.1 / q, slope[1], slope[2]])

    def value(self, c: Floats, x: Floats) -> Floats:
        """Return F, shape (n,)."""
        return self._factors(c, x)[1].prod(axis=1).sum(axis=0)

    def jacobian(self, c: Floats, x: Floats) -> Floats:
        """Return dF/dc, shape (n, p): the powers of one axis times the other two factors."""
        columns, factors = self._factors(c, x)
        others = _product_of_others(factors)
        return np.hstack([columns[a] * others[q, a][:, None] for q in range(self.rank) for a in range(3)])

    def gradient(self, c: Floats, x: Floats) -> Floats:
        """Return dF/dx, shape (n, 3): the slope of one factor times the other two."""
        others = _product_of_others(self._factors(c, x)[1])
        slopes = np.zeros_like(others)
        for q, term in enumerate(self._split(c)):
            for a, h in enumerate(term):
                slope = derivative(h)
                slopes[q, a] = powers(x[:, a], len(slope) - 1) @ slope
        return (slopes * others).sum(axis=0).T


def _product_of_others(factors: Floats) -> Floats:
    """Return, for shape (R, 3, n), the product of the two factors that are not axis a."""
    d, w, r = factors[:, 0], factors[:, 1], factors[:, 2]
    return np.stack([w * r, d * r, d * w], axis=1)
