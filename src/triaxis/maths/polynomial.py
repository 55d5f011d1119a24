"""The univariate polynomial H, centred at the base model.

Notation:
    x   keep ratio of one axis                      shape (n,), in (0, 1]
    c   coefficients, lowest power first            shape (K + 1,)
    H   H(x; c) = sum over k of c[k] (x - 1)^k      shape (n,)

The paper writes powers of x; powers of x - 1 span the same polynomials, are better conditioned, and make H(1) = c[0].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def powers(x: Floats, degree: int) -> Floats:
    """Return the columns (x - 1)^0 ... (x - 1)^degree.

    Args:
        x: Shape (n,), keep ratios in (0, 1].
        degree: K, 0 or more.

    Returns:
        Shape (n, K + 1).
    """
    return np.vander(np.asarray(x, float) - 1.0, degree + 1, increasing=True)


def evaluate(coefficients: Floats, x: Floats) -> Floats:
    """Return H(x; c).

    Args:
        coefficients: Shape (K + 1,), lowest power first.
        x: Shape (n,), keep ratios.

    Returns:
        Shape (n,).
    """
    return powers(x, len(coefficients) - 1) @ np.asarray(coefficients, float)


def derivative(coefficients: Floats) -> Floats:
    """Return the coefficients of dH/dx, so that ``evaluate(derivative(c), x)`` is the slope.

    Args:
        coefficients: Shape (K + 1,), lowest power first.

    Returns:
        Shape (max(K, 1),).
    """
    c = np.asarray(coefficients, float)
    return c[1:] * np.arange(1, len(c)) if len(c) > 1 else np.zeros(1)
