"""Intervals of measured accuracies."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binom, binomtest


def wilson(accuracy: float, num_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy in [0, 1] measured on `num_images` images."""
    found = binomtest(round(accuracy * num_images), num_images).proportion_ci(0.95, method="wilson")
    return (float(found.low), float(found.high))


def median_interval(values: Sequence[float], confidence: float = 0.9) -> tuple[float, float]:
    """Return an interval for the median of what `values` are drawn from, between two of them, with at least this confidence.

    The number of values below the median is binomial with share 1/2, whatever their distribution. Fewer than five values give
    their smallest and largest.
    """
    ordered, num = sorted(values), len(values)
    # The k-th smallest lies above the median with chance P(fewer than k below it).
    k = max((k for k in range(1, (num + 1) // 2 + 1) if binom.cdf(k - 1, num, 0.5) <= (1 - confidence) / 2), default=1)
    return ordered[k - 1], ordered[num - k]
