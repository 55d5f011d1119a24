"""The default predictor: the error grows along each axis, and the growths of two axes may reinforce each other.

Notation:
    x    keep ratios (d, w, r)                                     shape (n, 3)
    s    log cuts, s_a = -log x_a, 0 at the base model             shape (n, 3)
    e0   error of the base model
    B_a  error added by cutting axis a alone; B_a(0) = 0           shape (n,)
    k_ab how strongly the axes a and b reinforce each other        shape (n,)

    F(x) = 1 - e0 - B_d - B_w - B_r - sum over pairs of k_ab I_ab,   I_ab = B_a B_b / sqrt(e0^2 + B_a B_b)

k = 0 on all pairs is an additive error, which the paper's product of accuracies equals to first order. For growths small
beside e0, k = 1 makes the errors of the two axes multiply, as power laws do. The square root keeps I below the geometric
mean of B_a and B_b, so that a small e0 cannot blow it up. B_a is a polynomial in log x_a, given by its slope in Bernstein
form: slopes at 0 or above make it monotone. k_ab may vary linearly over the measured range. Beyond that range B_a goes
on with its last slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np

from triaxis.maths.polynomial import Floats

PAIRS = ((0, 1), (0, 2), (1, 2))
SMALLEST_ERROR = 1e-3


@dataclass(frozen=True)
class ErrorGrowthForm:
    """F(x; c) as above. c holds e0, the Bernstein slopes of each open axis, and three numbers for each pair of open axes.

    `degrees` are those of B, 0 for a closed axis; `spans` the largest measured log cuts.
    """

    degrees: tuple[int, int, int]
    spans: tuple[float, float, float]

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of open axes."""
        return tuple((a, b) for a, b in PAIRS if self.degrees[a] and self.degrees[b])

    @cached_property
    def num_slopes(self) -> int:
        """Bernstein slopes of all axes together; they follow e0 in c."""
        return sum(self.degrees)

    @property
    def num_coefficients(self) -> int:
        """e0, the slopes, and three numbers a pair."""
        return 1 + self.num_slopes + 3 * len(self.pairs)

    def axis_slice(self, a: int) -> slice:
        """Return where the slopes of axis a are in c."""
        start = 1 + sum(self.degrees[:a])
        return slice(start, start + self.degrees[a])

    def _pair_slice(self, p: int) -> slice:
        start = 1 + self.num_slopes + 3 * p
        return slice(start, start + 3)

    def _growths(self, c: Floats, s: Floats) -> tuple[list[Floats], Floats]:
        """Return the integrated Bernstein columns of each axis, and B with shape (3, n)."""
        columns = [bernstein_integrals(s[:, a], self.spans[a], degree) for a, degree in enumerate(self.degrees)]
        return columns, np.array([columns[a] @ c[self.axis_slice(a)] for a in range(3)])

    def _tilts(self, s: Floats, a: int, b: int) -> Floats:
        """Return the columns 1, t_a, t_b with t from -1 at the base model to 1 at the largest measured cut."""
        t = [2 * np.clip(s[:, axis] / self.spans[axis], 0, 1) - 1 for axis in (a, b)]
        return np.stack([np.ones(len(s)), *t], axis=1)

    def value(self, c: Floats, x: Floats) -> Floats:
        """Return F, shape (n,)."""
        s, e0 = -np.log(x), max(c[0], SMALLEST_ERROR)
        growth = self._growths(c, s)[1]
        error = c[0] + growth.sum(axis=0)
        for p, (a, b) in enumerate(self.pairs):
            error = error + self._tilts(s, a, b) @ c[self._pair_slice(p)] * _joint(growth[a], growth[b], e0)[0]
        return 1.0 - error

    def jacobian(self, c: Floats, x: Floats) -> Floats:
        """Return dF/dc, shape (n, p)."""
        s, e0 = -np.log(x), max(c[0], SMALLEST_ERROR)
        columns, growth = self._growths(c, s)
        by_growth, by_e0, by_pair = np.ones_like(growth), np.ones(len(s)), []
        for p, (a, b) in enumerate(self.pairs):
            tilts = self._tilts(s, a, b)
            k, (joint, slope, by_scale) = tilts @ c[self._pair_slice(p)], _joint(growth[a], growth[b], e0)
            by_growth[a] += k * slope * growth[b]
            by_growth[b] += k * slope * growth[a]
            by_e0 += k * by_scale
            by_pair.append(tilts * joint[:, None])
        by_axis = [columns[a] * by_growth[a][:, None] for a in range(3)]
        return -np.hstack([by_e0[:, None], *by_axis, *by_pair])

    def gradient(self, c: Floats, x: Floats) -> Floats:
        """Return dF/dx, shape (n, 3)."""
        s, e0 = -np.log(x), max(c[0], SMALLEST_ERROR)
        growth = self._growths(c, s)[1]
        slopes = np.array([bernstein(s[:, a], self.spans[a], degree) @ c[self.axis_slice(a)] for a, degree in enumerate(self.degrees)])
        by_s = slopes.copy()
        for p, (a, b) in enumerate(self.pairs):
            own, (joint, slope, _) = c[self._pair_slice(p)], _joint(growth[a], growth[b], e0)
            k = self._tilts(s, a, b) @ own
            for axis, other, tilt in ((a, b, own[1]), (b, a, own[2])):
                inside = s[:, axis] < self.spans[axis]
                by_s[axis] += k * slope * growth[other] * slopes[axis] + joint * inside * 2 * tilt / self.spans[axis]
        return (by_s / x.T).T


def _joint(first: Floats, second: Floats, e0: float) -> tuple[Floats, Floats, Floats]:
    """Return I = z / sqrt(e0^2 + z) with z = B_a B_b, dI/dz and dI/de0."""
    z = np.maximum(first * second, 0.0)
    total = e0**2 + z
    return z / np.sqrt(total), (e0**2 + z / 2) / total**1.5, -z * e0 / total**1.5


def bernstein(s: Floats, span: float, degree: int) -> Floats:
    """Return the Bernstein polynomials of degree `degree` - 1 over [0, span], constant beyond, shape (n, degree)."""
    if degree == 0:
        return np.zeros((len(s), 0))
    u, n = np.clip(s / span, 0.0, 1.0), degree - 1
    return np.stack([comb(n, k) * u**k * (1 - u) ** (n - k) for k in range(degree)], axis=1)


def bernstein_integrals(s: Floats, span: float, degree: int) -> Floats:
    """Return the integrals of `bernstein` from 0 to s, shape (n, degree)."""
    if degree == 0:
        return np.zeros((len(s), 0))
    u = np.clip(s / span, 0.0, 1.0)
    higher = np.stack([comb(degree, k) * u**k * (1 - u) ** (degree - k) for k in range(degree + 1)], axis=1)
    inside = span / degree * np.cumsum(higher[:, ::-1], axis=1)[:, ::-1][:, 1:]
    inside[:, -1] += np.maximum(s - span, 0.0)
    return inside
