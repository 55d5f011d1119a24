from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from triaxis.maths import bayes
from triaxis.maths.fit import fit, gradient
from triaxis.maths.growth import ErrorGrowthForm
from triaxis.study.synthetic import axis_ratios, measure, separable

FORM = ErrorGrowthForm((4, 4, 4), (0.85, 1.0, 0.7))
X = axis_ratios()


def _average(y: np.ndarray, weight: np.ndarray | None = None) -> bayes.Posterior:
    return bayes.average(FORM, X, y, np.ones(len(y)) if weight is None else weight, 0, 0.0)


def test_the_posterior_is_the_textbooks_where_the_grid_is_one_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rho, one tau, axis points only: Bayesian linear regression, here solved by its normal equations."""
    monkeypatch.setattr(bayes, "RHOS", np.array([[1.0, 1.0, 1.0]]))
    monkeypatch.setattr(bayes, "TAUS", np.array([0.003]))
    y = separable(X) + 0.003 * np.random.default_rng(0).normal(size=len(X))
    found = _average(y)
    mean, slopes = bayes._prior(FORM, X, y, np.ones(len(y)))
    prior = bayes._prior_covariance(FORM, slopes, np.ones(3))
    jacobian = FORM.jacobian(mean, X)
    precision = np.linalg.inv(prior) + jacobian.T @ jacobian / 0.003**2
    expected = mean + np.linalg.solve(precision, jacobian.T @ (y - FORM.value(mean, X))) / 0.003**2
    assert np.allclose(found.covariance, np.linalg.inv(precision), atol=1e-9)
    if np.all(expected[1:13] >= 0):
        assert np.allclose(found.coefficients[:13], expected[:13], atol=1e-7)
    assert found.noise == pytest.approx(0.003)


def test_leave_one_out_errors_are_those_of_real_refits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bayes, "RHOS", np.array([[1.0, 1.0, 1.0]]))
    monkeypatch.setattr(bayes, "TAUS", np.array([0.003]))
    y = separable(X) + 0.003 * np.random.default_rng(1).normal(size=len(X))
    found = _average(y)
    mean, slopes = bayes._prior(FORM, X, y, np.ones(len(y)))
    jacobian, z = FORM.jacobian(mean, X), y - FORM.value(mean, X)
    covariance = jacobian @ bayes._prior_covariance(FORM, slopes, np.ones(3)) @ jacobian.T + 0.003**2 * np.eye(len(y))
    for left_out in range(len(y)):
        rest = np.arange(len(y)) != left_out
        predicted = covariance[left_out, rest] @ np.linalg.solve(covariance[np.ix_(rest, rest)], z[rest])
        assert found.leave_one_out[left_out] == pytest.approx(z[left_out] - predicted, abs=1e-9)


def test_the_average_over_the_grid_is_wider_than_its_parts() -> None:
    """Doubt about smoothness and noise adds the spread of the means to the mean of the covariances."""
    rng = np.random.default_rng(2)
    jacobian, priors = 0.01 * rng.normal(size=(5, 3)), np.array([np.eye(3), 9 * np.eye(3)])
    grid = bayes._Grid.over(priors, jacobian, 0.02 * rng.normal(size=5), np.zeros(len(bayes.TAUS)))
    means = np.einsum("rtn,rnp->rtp", grid.solved, grid.gains)
    spread = np.einsum("rt,rtp->p", grid.probability, (means - grid.mean()) ** 2)
    parts = np.zeros(3)
    for r, prior in enumerate(priors):
        for t in range(len(bayes.TAUS)):
            posterior = prior - grid.gains[r].T @ grid.inverses[r, t] @ grid.gains[r]
            parts += grid.probability[r, t] * np.diag(posterior)
    assert np.allclose(np.diag(grid.covariance()), parts + spread)
    assert spread.max() > 0.01 * parts.max()


def test_the_noise_is_learnt_from_the_points() -> None:
    quiet, loud = (_average(separable(X) + noise * np.random.default_rng(3).normal(size=len(X))).noise for noise in (0.0005, 0.01))
    assert quiet < 0.0025 < loud


def test_only_joint_effects_that_would_make_accuracy_rise_are_shrunk() -> None:
    c = np.concatenate([[0.06], np.full(12, 0.1), [1.0, 0.0, 0.0], [-3.0, 0.5, 0.0], [0.1, 0.0, 0.0]])
    x = np.exp(-np.random.default_rng(0).uniform(0, 1, (200, 3)) * FORM.spans)
    assert FORM.gradient(c, x).min() < -0.05
    tamed = bayes._tamed(FORM, c)
    assert FORM.gradient(tamed, x).min() > -0.01
    assert np.allclose(np.delete(tamed, (16, 17)), np.delete(c, (16, 17)))
    assert 0 < tamed[16] / c[16] == pytest.approx(tamed[17] / c[17])
    assert tamed[16] / c[16] < 1
    harmless = np.concatenate([c[:16], np.array([0.2, 0, 0, 0.1, 0, 0])])
    assert np.array_equal(bayes._tamed(FORM, harmless), harmless)


def test_a_fit_never_rises_even_where_the_truth_does() -> None:
    """Depth and resolution replace each other so strongly that cutting the one helps where the other is cut."""
    truth = ErrorGrowthForm((1, 1, 1), (0.81, 0.98, 0.69))
    rising = np.array([0.06, 0.15, 0.05, 0.15, 0, 0, 0, -1.0, 0, 0, 0, 0, 0])
    off = np.array([[4 / 9, 1, 0.5], [4 / 9, 1, 0.75], [2 / 3, 1, 0.5], [2 / 3, 1, 0.75], [0.8, 1, 0.6]])
    grid = np.stack(np.meshgrid(np.linspace(4 / 9, 1, 7), [1, 0.5], np.linspace(0.5, 1, 7), indexing="ij"), -1).reshape(-1, 3)
    assert truth.gradient(rising, grid).min() < -0.1
    predictor, _ = fit(measure(lambda x: truth.value(rising, x), np.vstack([X, off])))
    assert gradient(predictor, grid).min() > -0.005


def test_many_places_give_what_few_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned into p + 1 numbers or not, weighted or not, on the axes and off: the same posterior and leave-one-out errors."""
    rng = np.random.default_rng(4)
    x = np.exp(-rng.uniform(0, 1, (90, 3)) * FORM.spans)
    y, weight = separable(x) + 0.004 * rng.normal(size=90), rng.uniform(0.3, 3.0, 90)
    direct = bayes.average(FORM, x, y, weight, 4, 1e-4)
    monkeypatch.setattr(bayes, "MAX_PLACES", 60)
    turned = bayes.average(FORM, x, y, weight, 4, 1e-4)
    for one, other in zip(direct, turned, strict=True):
        assert np.allclose(one, other, rtol=1e-6, atol=1e-9)
    assert np.abs(direct.leave_one_out).max() > 0.001


def test_ten_thousand_places_are_fitted_in_seconds_and_little_memory() -> None:
    rng = np.random.default_rng(5)
    x = np.exp(-rng.uniform(0, 1, (10_000, 3)) * FORM.spans)
    y = separable(x) + 0.002 * rng.normal(size=len(x))
    tracemalloc.start()
    start = time.process_time()
    found = bayes.average(FORM, x, y, np.ones(len(x)), 0, 0.0)
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 5 and peak < 2**28
    assert found.noise == pytest.approx(0.0022)  # the nearest of the grid
    assert np.abs(FORM.value(found.coefficients, x) - separable(x)).max() < 0.001
