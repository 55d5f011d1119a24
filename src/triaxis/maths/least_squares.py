"""Weighted non-linear least squares for a dozen points, in well under a millisecond an iteration.

Notation:
    y   measured accuracies        shape (n,)
    s   square roots of weights    shape (n,)
    J   dF/dc, times s             shape (n, p)
    h   leverages, diagonal of the projection on J's columns

`scipy.optimize.least_squares` gives the same minima; its fixed cost per call alone is several of our whole fits, and the
leave-one-out choice of the degree needs many.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triaxis.maths.forms import ProductForm
from triaxis.maths.polynomial import Floats

MAX_STEPS = 60
RELATIVE_RANK = 1e-10


class Minimum(NamedTuple):
    """Coefficients of the best fit, with the singular values of the scaled J."""

    coefficients: Floats
    residuals: Floats
    covariance: Floats
    leave_one_out: Floats
    condition_number: float
    num_determined: int
    loss: float


def minimise(form: ProductForm, x: Floats, y: Floats, weight: Floats) -> Minimum:
    """Return argmin over c of sum of weight (y - F(x; c))^2, by Gauss-Newton with step halving.

    Redundant directions of c (the scales between the factors of a product) are left where they are: each step is the
    shortest that solves the linear problem.

    Args:
        form: The function family; all its starts are tried.
        x: Shape (n, 3), keep ratios.
        y: Shape (n,), accuracies in [0, 1].
        weight: Shape (n,), relative inverse variances, mean 1.

    Returns:
        The lowest minimum found. `covariance` is of the coefficients, shape (p, p), for unit noise; `leave_one_out` has
        shape (n,), the error at each point predicted without it (inf where only that point determines a coefficient).
    """
    found = [_descend(form, c, x, y, np.sqrt(weight)) for c in form.start(x, y, weight)]
    return min(found, key=lambda minimum: minimum.loss)


def _descend(form: ProductForm, c: Floats, x: Floats, y: Floats, s: Floats) -> Minimum:
    residuals = s * (y - form.value(c, x))
    for _ in range(MAX_STEPS):
        step = np.linalg.lstsq(s[:, None] * form.jacobian(c, x), residuals, rcond=RELATIVE_RANK)[0]
        c, better = _halved(form, c, step, x, y, s, residuals)
        gain = residuals @ residuals - better @ better
        residuals = better
        if gain <= 1e-15 * (1.0 + residuals @ residuals):
            break
    return _summary(form, c, x, s, residuals)


def _halved(form: ProductForm, c: Floats, step: Floats, x: Floats, y: Floats, s: Floats, before: Floats) -> tuple[Floats, Floats]:
    """Return the first of c + step, c + step/2, ... that does not raise the loss, with its residuals; c itself if none does."""
    for halvings in range(12):
        trial = c + step / 2**halvings
        residuals = s * (y - form.value(trial, x))
        if residuals @ residuals <= before @ before:
            return trial, residuals
    return c, before


def _summary(form: ProductForm, c: Floats, x: Floats, s: Floats, residuals: Floats) -> Minimum:
    """Return covariance, leverages and condition number from one singular value decomposition of J with unit columns."""
    jacobian = s[:, None] * form.jacobian(c, x)
    norms = np.linalg.norm(jacobian, axis=0)
    norms[norms == 0] = 1.0
    u, sigma, vt = np.linalg.svd(jacobian / norms, full_matrices=False)
    rank = int(np.sum(sigma > RELATIVE_RANK * max(sigma[0], 1e-300)))
    root = vt[:rank].T / sigma[:rank]
    leverage = np.sum(u[:, :rank] ** 2, axis=1)
    spare = np.where(leverage < 1 - 1e-9, 1 - leverage, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(spare > 0, residuals / spare / s, np.inf)
    covariance = (root @ root.T) / np.outer(norms, norms)
    condition = float(sigma[0] / sigma[min(rank, form.num_free) - 1]) if rank else float("inf")
    return Minimum(c, residuals / s, covariance, errors, condition, rank, float(residuals @ residuals))
