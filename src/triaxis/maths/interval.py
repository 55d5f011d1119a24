"""Intervals of measured accuracies."""

from __future__ import annotations

from scipy.stats import binomtest


def wilson(accuracy: float, num_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy in [0, 1] measured on `num_images` images."""
    found = binomtest(round(accuracy * num_images), num_images).proportion_ci(0.95, method="wilson")
    return (float(found.low), float(found.high))
