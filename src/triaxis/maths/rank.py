"""Does accuracy over (d, w, r) have rank 1? The identities of the paper's supplement as functions, and a test on trials.

Notation:
    F     accuracies on a grid                                     shape (depths, widths, resolutions)
    M     a slice of F with one axis fixed                         shape (rows, columns)
    d2, w2, r2   a reference point; its index in each direction
    H     factor of one axis: F(d, w, r) = H(d) H(w) H(r)

Source: Wang et al., ICML 2021, supplement A.2, eq. 3 to 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from triaxis.maths.fit import fit
from triaxis.maths.polynomial import Floats
from triaxis.maths.predict import form_of
from triaxis.values import Point


def row_ratios(table: Floats, reference_row: int) -> Floats:
    """Return each row over the reference row, column by column; rank 1 makes every row of the result constant.

    Args:
        table: M, shape (rows, columns), accuracies above 0.
        reference_row: Row to divide by.

    Returns:
        Shape (rows, columns).

    Source:
        Supplement, sub-titles of Table 1.
    """
    table = np.asarray(table, float)
    return table / table[reference_row]


def spread(ratios: Floats) -> Floats:
    """Return the largest minus the smallest entry of each row, shape (rows,); 0 where rank 1 is exact."""
    return np.ptp(np.asarray(ratios, float), axis=1)


def from_cross(table: Floats, row: int, column: int) -> Floats:
    """Predict a table from one of its rows and one of its columns: M[i, j] = M[i, column] M[row, j] / M[row, column].

    With depth fixed this is eq. 3, with width fixed eq. 4, with the resolution fixed eq. 5.

    Args:
        table: M, shape (rows, columns), accuracies above 0.
        row: Reference row.
        column: Reference column.

    Returns:
        Shape (rows, columns); equal to M there and where M has rank 1.
    """
    table = np.asarray(table, float)
    return table[:, [column]] * table[[row], :] / table[row, column]


def from_axes(depth: Floats, width: Floats, resolution: Floats, reference: float) -> Floats:
    """Predict F from its three slices through a reference point.

    F(d, w, r) = F(d, w2, r2) F(d2, w, r2) F(d2, w2, r) / F(d2, w2, r2)^2.

    Args:
        depth: F(d, w2, r2); any shape that broadcasts with the others.
        width: F(d2, w, r2).
        resolution: F(d2, w2, r).
        reference: F(d2, w2, r2), above 0.

    Source:
        Supplement, eq. 6.
    """
    return np.asarray(depth, float) * width * resolution / reference**2


def factors(depth: Floats, width: Floats, resolution: Floats, reference: float) -> tuple[Floats, Floats, Floats]:
    """Return H of each axis, with the constant 1 / F(d2, w2, r2)^2 merged into depth's.

    Source:
        Supplement, eq. 7.
    """
    return np.asarray(depth, float) / reference**2, np.asarray(width, float), np.asarray(resolution, float)


class RankOne(NamedTuple):
    """The nearest rank-1 table and what it leaves.

    `share` is of the squared entries, which is near 1 for any accuracies because they are all alike; `share_of_variation`
    is of the squared differences from the mean, which is what a predictor has to explain.
    """

    table: Floats
    share: float
    share_of_variation: float
    residual: Floats


def nearest_rank_one(table: Floats) -> RankOne:
    """Return the rank-1 table nearest to M in least squares.

    Args:
        table: M, shape (rows, columns).
    """
    table = np.asarray(table, float)
    u, sigma, vt = np.linalg.svd(table, full_matrices=False)
    nearest = sigma[0] * np.outer(u[:, 0], vt[0])
    left = float(np.sum((table - nearest) ** 2))
    variation = float(np.sum((table - table.mean()) ** 2))
    of_variation = 1.0 - left / variation if variation > 0 else 1.0
    return RankOne(nearest, 1.0 - left / float(np.sum(table**2)), of_variation, table - nearest)


class RankTest(NamedTuple):
    """Off-axis points against the product of the axes.

    `points` are indices of those that cut more than one axis; `deviations` measured minus product, in accuracy, with their
    90 % half-widths. `mean` is the mean deviation, `interval` its 90 % interval: 0 inside it means that rank 1 holds as
    far as these points can tell.
    """

    points: tuple[int, ...]
    deviations: Floats
    half_widths: Floats
    mean: float
    interval: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Whether 0 is in the interval."""
        return self.interval[0] <= 0 <= self.interval[1]


def rank_one_test(points: Sequence[Point]) -> RankTest | None:
    """Compare points that cut several axes with the product of what the points on single axes say (eq. 6).

    The slices of eq. 6 are smoothed by the growth fit to the single-axis points; its uncertainty and the noise of the
    off-axis points make the interval. An axis needs its own trials: without off-axis points there is nothing to test.

    Args:
        points: Measured accuracies; those that cut at most one axis are the slices.

    Returns:
        The test, or None where no point cuts several axes.

    Raises:
        FitError: The single-axis points do not determine the slices.
    """
    num_cut = [sum(ratio < 1 for ratio in point.ratios.as_tuple()) for point in points]
    off = [n for n, cut in enumerate(num_cut) if cut > 1]
    if not off:
        return None
    predictor, _ = fit([point for point, cut in zip(points, num_cut, strict=True) if cut <= 1], kind="growth")
    form, c, covariance = form_of(predictor), np.array(predictor.coefficients), np.array(predictor.covariance)
    x = np.array([points[n].ratios.as_tuple() for n in off])
    slices = [np.where(np.arange(3) == a, x, 1.0) for a in range(3)]
    base, parts = form.value(c, np.ones((1, 3)))[0], [form.value(c, part) for part in slices]
    product = from_axes(parts[0], parts[1], parts[2], base)
    # log product = sum of log slices - 2 log base, so its derivative is the product times the sum of theirs.
    logs = [form.jacobian(c, part) / value[:, None] for part, value in zip(slices, parts, strict=True)]
    jacobian = product[:, None] * (sum(logs) - 2 * form.jacobian(c, np.ones((1, 3))) / base)
    deviations = np.array([points[n].accuracy for n in off]) - product
    joint = jacobian @ covariance @ jacobian.T + predictor.noise**2 * np.eye(len(off))
    z = float(special.ndtri(0.95))
    mean, half = float(deviations.mean()), z * float(np.sqrt(joint.mean()))
    return RankTest(tuple(off), deviations, z * np.sqrt(np.diag(joint)), mean, (mean - half, mean + half))
