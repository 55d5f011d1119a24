"""Fit the error-growth form by Bayesian averaging over its smoothness and the noise.

Notation:
    y    mean accuracies of the distinct places                 shape (n,)
    v    their variances per unit of noise^2, 1 / weight        shape (n,)
    c    coefficients, prior N(m, V(rho))                       shape (p,)
    rho  how much the slope of each axis may vary over its range, relative to the slope      shape (3,)
    tau  standard deviation of one measured accuracy
    A    J V J' + tau^2 diag(v), the prior covariance of y      shape (n, n)

For each (rho, tau) of a grid the posterior of c is Gaussian, and so is the evidence of y; the average over the grid by
evidence needs no choice of either. F is linear in c on the axes; off them it is linearised again at each round's mean.

Where there are many places, more than MAX_PLACES, they are first turned into p + 1 numbers that say the same: with
[J y] = Q R, Q'y holds all that y says of c and, in one number, how far it is from any c; across Q there is only noise.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.11 and 5.8, and 5.12 for leave-one-out.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from triaxis.maths.growth import ErrorGrowthForm
from triaxis.maths.polynomial import Floats

# What is believed before any trial. The spreads of the joint effects were set on synthetic surfaces, so that intervals
# cover what they claim (benchmarks/predictors.py); none was tuned on accuracies that a benchmark scores.
RHOS = np.array(list(itertools.product((0.125, 0.5, 2.0, 8.0), repeat=3)))
TAUS = np.array([0.0005, 0.001, 0.0015, 0.0022, 0.0033, 0.005, 0.01, 0.025])
# A quarter of a point, the sampling noise of 10,000 images at 93 %, within a factor of two.
TYPICAL_NOISE, NOISE_SPREAD = 0.0025, np.log(2.0)
SLOPE_SPREAD = 2.0
# Depth and width both spend capacity, and errors follow power laws in capacity, so their errors multiply: 1. A lower
# resolution takes information away whatever the capacity, so its error adds: 0.
JOINT_MEAN = {(0, 1): 1.0, (0, 2): 0.0, (1, 2): 0.0}
JOINT_SPREAD, TILT_SPREAD = 0.75, 0.35
QUANTILE = float(special.ndtri(0.95))
ROUNDS = 4
# Beyond this many places the matrices of shape (n, n) cost more than turning them into fewer numbers first.
MAX_PLACES = 128
# Share of the evidence below which a place of the grid is not worth a look at each of many points.
NO_EVIDENCE = 1e-12
# Accuracy per unit of keep ratio that counts as level: over a whole axis far below any trial's noise.
NO_SLOPE = 1e-3


class Posterior(NamedTuple):
    """The averaged posterior of c. `leave_one_out` has shape (n,), measured minus predicted from the others."""

    coefficients: Floats
    covariance: Floats
    noise: float
    leave_one_out: Floats
    condition_number: float


def average(form: ErrorGrowthForm, x: Floats, y: Floats, weight: Floats, num_repeats: int, repeat_squares: float) -> Posterior:
    """Return the evidence-weighted posterior of the form's coefficients.

    Args:
        form: Degrees and spans.
        x: Shape (n, 3), distinct keep ratios.
        y: Shape (n,), mean accuracies in [0, 1].
        weight: Shape (n,), relative inverse variances.
        num_repeats: Points beyond the distinct ones.
        repeat_squares: Weighted sum of squares of repeats about their means.
    """
    mean, slopes = _prior(form, x, y, weight)
    priors = np.array([_prior_covariance(form, slopes, rho) for rho in RHOS])
    log_prior = -num_repeats * np.log(TAUS) - repeat_squares / (2 * TAUS**2) - (np.log(TAUS / TYPICAL_NOISE) / NOISE_SPREAD) ** 2 / 2
    now, root = mean, np.sqrt(weight)
    for _ in range(ROUNDS if _has_off_axis(form, x) else 1):
        jacobian = form.jacobian(now, x)
        z = y - form.value(now, x) + jacobian @ (now - mean)
        seen = _Seen.of(jacobian * root[:, None], z * root)
        grid = _Grid.over(priors, seen.jacobian, seen.z, log_prior - seen.num_across * np.log(TAUS))
        now = mean + grid.mean()
    covariance = grid.covariance()
    return Posterior(
        coefficients=_monotone(form, now, covariance),
        covariance=covariance,
        noise=float(np.sqrt(grid.average(np.tile(TAUS**2, (len(RHOS), 1))))),
        leave_one_out=seen.leave_one_out(grid) / root,
        condition_number=float(grid.average(grid.conditions)),
    )


def _has_off_axis(form: ErrorGrowthForm, x: Floats) -> bool:
    """Return whether any point cuts two axes, so that F is not linear in c there."""
    return bool(form.pairs) and bool(np.any(np.sum(x < x.max(axis=0), axis=1) > 1))


def _prior(form: ErrorGrowthForm, x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the prior mean of c, and each axis's average slope, from a non-negative linear fit in log x."""
    design = np.hstack([np.ones((len(x), 1)), -np.log(x)])
    scale = np.sqrt(weight)[:, None]
    linear = optimize.nnls(design * scale, (1 - y) * scale[:, 0])[0]
    slopes = np.maximum(linear[1:], max(0.1 * linear[1:].max(), 2e-3))
    c = np.zeros(form.num_coefficients)
    c[0] = max(linear[0], 1e-3)
    for a in range(3):
        c[form.axis_slice(a)] = slopes[a]
    c[1 + form.num_slopes :: 3] = [JOINT_MEAN[pair] for pair in form.pairs]
    return c, slopes


def _prior_covariance(form: ErrorGrowthForm, slopes: Floats, rho: Floats) -> Floats:
    """Return V: any base error, slopes of an unknown level that walk at random along the axis, joint effects near their means."""
    v = np.zeros((form.num_coefficients, form.num_coefficients))
    v[0, 0] = 1.0
    for a, degree in enumerate(form.degrees):
        steps = np.arange(degree) / max(degree - 1, 1)
        v[form.axis_slice(a), form.axis_slice(a)] = slopes[a] ** 2 * (SLOPE_SPREAD**2 + rho[a] ** 2 * np.minimum.outer(steps, steps))
    joint = np.tile([JOINT_SPREAD**2, TILT_SPREAD**2, TILT_SPREAD**2], len(form.pairs))
    v[1 + form.num_slopes :, 1 + form.num_slopes :] = np.diag(joint)
    return v


class _Seen(NamedTuple):
    """What the grid sees of the points: J and z themselves, or of many places the same seen along the columns of `basis`, (n, p + 1).

    `num_across` counts the directions that are not seen: in them z is noise of variance tau^2, with a sum of squares of 0.
    """

    jacobian: Floats
    z: Floats
    basis: Floats | None = None
    num_across: int = 0

    @classmethod
    def of(cls, jacobian: Floats, z: Floats) -> _Seen:
        """Turn J, shape (n, p), and z, shape (n,), if there are many."""
        if len(z) <= MAX_PLACES:
            return cls(jacobian, z)
        basis, both = np.linalg.qr(np.column_stack([jacobian, z]))
        return cls(both[:, :-1], both[:, -1], basis, len(z) - len(both))

    def leave_one_out(self, grid: _Grid) -> Floats:
        """Return, shape (n,), each y minus its prediction from the others: (A^-1 z)_i / (A^-1)_ii, averaged over the grid."""
        if self.basis is None:
            return grid.leave_one_out()
        across = np.maximum(1 - np.sum(self.basis**2, axis=1), 0.0)
        total = np.zeros(len(self.basis))
        for r, t in np.argwhere(grid.probability > NO_EVIDENCE):
            own = across / TAUS[t] ** 2 + np.sum((self.basis @ grid.inverses[r, t]) * self.basis, axis=1)
            total += grid.probability[r, t] * (self.basis @ grid.solved[r, t]) / own
        return total


class _Grid(NamedTuple):
    """Posteriors over the grid of (rho, tau), as arrays with leading shape (rhos, taus).

    `inverses` are those of A, shape (rhos, taus, n, n); `gains` are J V, shape (rhos, n, p); `priors` V, shape (rhos, p, p).
    """

    probability: Floats
    inverses: Floats
    solved: Floats
    gains: Floats
    priors: Floats
    conditions: Floats

    @classmethod
    def over(cls, priors: Floats, jacobian: Floats, z: Floats, log_prior: Floats) -> _Grid:
        """Compute the grid; one eigendecomposition of J V J' serves every tau. `log_prior` of tau has shape (taus,)."""
        gains = jacobian @ priors
        values, vectors = np.linalg.eigh(gains @ jacobian.T)
        total = np.maximum(values, 0.0)[:, None, :] + TAUS[:, None] ** 2
        turned = np.einsum("rni,n->ri", vectors, z)
        evidence = log_prior - 0.5 * np.sum(turned[:, None, :] ** 2 / total + np.log(total), axis=2)
        probability = np.exp(evidence - evidence.max())
        inverses = (vectors[:, None] / total[:, :, None, :]) @ vectors[:, None].swapaxes(2, 3)
        conditions = np.sqrt(total.max(axis=2) / total.min(axis=2))
        return cls(probability / probability.sum(), inverses, inverses @ z, gains, priors, conditions)

    def mean(self) -> Floats:
        """Return the average of the posterior means, relative to the prior's, shape (p,)."""
        return np.einsum("rt,rtn,rnp->p", self.probability, self.solved, self.gains)

    def covariance(self) -> Floats:
        """Return the average posterior covariance plus the covariance of the posterior means, shape (p, p)."""
        known = np.einsum("rt,rtnm->rnm", self.probability, self.inverses)
        means = np.einsum("rtn,rnp->rtp", self.solved, self.gains) - self.mean()
        within = np.einsum("rt,rpq->pq", self.probability, self.priors) - np.sum(self.gains.swapaxes(1, 2) @ known @ self.gains, axis=0)
        return within + np.einsum("rt,rtp,rtq->pq", self.probability, means, means, optimize=True)

    def average(self, quantity: Floats) -> Floats:
        """Return the average over the grid of something with leading shape (rhos, taus)."""
        return np.tensordot(self.probability, quantity, axes=2)

    def leave_one_out(self) -> Floats:
        """Return, shape (n,), each y minus its prediction from the others."""
        return self.average(self.solved / np.einsum("rtnn->rtn", self.inverses))


def _monotone(form: ErrorGrowthForm, c: Floats, covariance: Floats) -> Floats:
    """Return the most probable coefficients near c with which no cut raises the predicted accuracy.

    Slopes are moved to 0 or above, the others with them as the posterior says; then joint effects that would make F rise
    are shrunk.
    """
    low = np.full(len(c), -np.inf)
    low[1 : 1 + form.num_slopes] = 0.0
    if np.any(c < low):
        whiten = np.linalg.inv(np.linalg.cholesky(covariance + 1e-12 * np.diag(np.diag(covariance)) + 1e-15 * np.eye(len(c))))
        c = np.maximum(optimize.lsq_linear(whiten, whiten @ c, bounds=(low, np.inf)).x, low)
    return _tamed(form, c)


def _tamed(form: ErrorGrowthForm, c: Floats) -> Floats:
    """Shrink the joint effects of each pair by no more than it takes that F falls when an axis is cut.

    F is affine in them, so the largest factors, in sum, that keep the gradient above 0 on a grid are a linear program.
    """
    axes = [np.exp(-np.linspace(0.0, span, 7)) if degree else np.ones(1) for span, degree in zip(form.spans, form.degrees, strict=True)]
    x = np.stack([grid.reshape(-1) for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    if not form.pairs or form.gradient(c, x).min() >= -NO_SLOPE:
        return c
    first = 1 + form.num_slopes
    alone = np.concatenate([c[:first], np.zeros(len(c) - first)])
    own = form.gradient(alone, x).reshape(-1)
    of_pair = np.eye(len(form.pairs)).repeat(3, axis=1)
    effects = [form.gradient(np.concatenate([c[:first], c[first:] * mask]), x).reshape(-1) - own for mask in of_pair]
    program = optimize.linprog(-np.ones(len(effects)), -np.stack(effects, axis=1), own + NO_SLOPE, bounds=(0.0, 1.0))
    factors = program.x if program.x is not None else np.zeros(len(effects))
    return np.concatenate([c[:first], c[first:] * factors.repeat(3)])
