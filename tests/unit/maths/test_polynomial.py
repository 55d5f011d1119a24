from __future__ import annotations

import numpy as np

from triaxis.maths.polynomial import derivative, evaluate, powers


def test_evaluate_is_a_polynomial_in_x_minus_one() -> None:
    x = np.array([0.25, 0.5, 1.0])
    assert np.allclose(evaluate(np.array([2.0, 3.0, -1.0]), x), 2 + 3 * (x - 1) - (x - 1) ** 2, atol=1e-15)
    assert evaluate(np.array([2.0, 3.0]), np.ones(1))[0] == 2.0


def test_derivative_matches_finite_differences() -> None:
    c, x, h = np.array([0.9, 0.2, -0.4, 0.7]), np.linspace(0.2, 1, 7), 1e-6
    slope = (evaluate(c, x + h) - evaluate(c, x - h)) / (2 * h)
    assert np.allclose(evaluate(derivative(c), x), slope, atol=1e-9)


def test_a_constant_has_slope_zero() -> None:
    assert evaluate(derivative(np.array([0.7])), np.array([0.3]))[0] == 0.0
    assert powers(np.array([0.3]), 0).shape == (1, 1)
