"""Intervals of measured accuracies.

Notation:
    n_k, s_k   images of class k, and how many of them are right
    p_k        the recall of class k, estimated as s_k / n_k
    K          classes that have images;  balanced accuracy is the mean of their p_k
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit
from scipy.stats import binom, binomtest

NUM_DRAWS = 4000

DRAWS, MOST_DRAWN = (50, 400), 1e8
"""Draws of a bootstrap over images: so many at least and at most, and between them as many as touch this many numbers."""


def wilson(accuracy: float, num_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy in [0, 1] measured on `num_images` images."""
    found = binomtest(round(accuracy * num_images), num_images).proportion_ci(0.95, method="wilson")
    return (float(found.low), float(found.high))


def balanced(num_right: Sequence[float], num_images: Sequence[int], *, seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of the balanced accuracy, by a smoothed bootstrap within each class.

    A plain bootstrap draws s_k again from a binomial with p_k, so that a class with all or none right gets no width at all.
    Here p_k is drawn from its posterior under the Jeffreys prior, Beta(s_k + 1/2, n_k - s_k + 1/2), which has a width
    everywhere. Two things are put right: the posterior spreads like n_k + 2 images, so its spread is scaled to n_k; and the
    prior pulls every class towards one half, which in a mean over K classes would add up while the width shrinks, so that
    no more than one class's share of that pull is kept.

    Args:
        num_right: s_k of each class.
        num_images: n_k of each class; classes without images are left out.
        seed: Of the draws; the same numbers give the same interval.

    Returns:
        Low and high in [0, 1].
    """
    right, images = np.array(num_right, float), np.array(num_images, float)
    right, images = right[images > 0], images[images > 0]
    mean = (right + 0.5) / (images + 1)
    generator = np.random.default_rng(seed)
    # One class after the other: with a thousand classes all draws at once would not fit in a cache.
    deviation = np.zeros(NUM_DRAWS)
    for s, n, m in zip(right, images, mean, strict=True):
        deviation += np.sqrt((n + 2) / n) * (generator.beta(s + 0.5, n - s + 0.5, NUM_DRAWS) - m)
    estimate, pull = float(np.mean(right / images)), float(np.mean(mean - right / images))
    low, high = estimate + pull / len(images) + np.quantile(deviation / len(images), [0.025, 0.975])
    # The estimate itself is never ruled out.
    return max(0.0, min(float(low), estimate)), min(1.0, max(float(high), estimate))


def median_interval(values: Sequence[float], confidence: float = 0.9) -> tuple[float, float]:
    """Return an interval for the median of what `values` are drawn from, between two of them, with at least this confidence.

    The number of values below the median is binomial with share 1/2, whatever their distribution. Fewer than five values give
    their smallest and largest.
    """
    ordered, num = sorted(values), len(values)
    # The k-th smallest lies above the median with chance P(fewer than k below it).
    k = max((k for k in range(1, (num + 1) // 2 + 1) if binom.cdf(k - 1, num, 0.5) <= (1 - confidence) / 2), default=1)
    return ordered[k - 1], ordered[num - k]


def of_mean(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the t-interval of the mean of what `values` are drawn from; of a single value everything is possible."""
    numbers = np.array(values, float)
    if len(numbers) < 2:
        return float("-inf"), float("inf")
    half = float(stdtrit(len(numbers) - 1, (1 + confidence) / 2) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return float(numbers.mean()) - half, float(numbers.mean()) + half


def mean_average_precision(scores: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Return the mean over labels of the average precision, and its 95 % interval by a bootstrap over images.

    The average precision of one label is sum_i P_i y_i / sum_i y_i over the images by falling score, where P_i is the share of
    images with the label among those that score as high as image i or higher. A draw gives image i a whole weight w_i, and
    replaces each 1 in these sums by w_i. Where all draws are alike, as with a perfect ranking, the width is that of an accuracy.

    Args:
        scores: (N, K), larger means more likely.
        targets: (N, K) of 0 and 1; each label occurs.
        seed: Of the draws; the same numbers give the same interval.
    """
    num_images, num_labels = scores.shape
    num_draws = int(np.clip(MOST_DRAWN / scores.size, *DRAWS))
    drawn = np.random.default_rng(seed).multinomial(num_images, np.full(num_images, 1 / num_images), num_draws).astype(float)
    weights = np.vstack([np.ones(num_images), drawn])
    found = np.zeros((len(weights), num_labels))
    for label in range(num_labels):
        order = np.argsort(-scores[:, label], kind="stable")
        # Images that score alike are ranked alike: at the last of them.
        last = np.searchsorted(-scores[order, label], -scores[order, label], side="right") - 1
        w, y = weights[:, order], targets[order, label]
        right, all_ = np.cumsum(w * y, 1)[:, last], np.cumsum(w, 1)[:, last]
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, label] = np.nansum(w * y * right / all_, 1) / (w * y).sum(1)
    means = np.nanmean(found, 1)
    estimate, (low, high) = float(means[0]), np.quantile(means[1:], [0.025, 0.975])
    if high == low:
        return min(1.0, estimate), wilson(estimate, num_images)
    return min(1.0, estimate), (max(0.0, min(float(low), estimate)), min(1.0, max(float(high), estimate)))


def mean_iou(right: np.ndarray, found: np.ndarray, wanted: np.ndarray, *, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Return the mean over classes of intersection over union, and its 95 % interval by a bootstrap over images.

    With r, f and w the pixels of a class that are right, that were found and that should have been, the intersection over union is
    sum r / (sum f + sum w - sum r), summed over images; the mean is over the classes with sum w > 0. A draw gives each image a whole
    weight in these sums. Where all draws are alike, as with perfect outputs, the width is that of an accuracy.

    Args:
        right: (N, K) pixels by image and class.
        found: (N, K), likewise.
        wanted: (N, K), likewise; some class occurs.
        seed: Of the draws; the same numbers give the same interval.
    """
    num_images = len(wanted)
    drawn = np.random.default_rng(seed).multinomial(num_images, np.full(num_images, 1 / num_images), DRAWS[1]).astype(float)
    weights = np.vstack([np.ones(num_images), drawn])
    r, f, w = (weights @ part for part in (right, found, wanted))
    shares = np.where(w > 0, r / np.maximum(f + w - r, 1), np.nan)
    # A draw may miss every image that has a class; with no class at all it says nothing.
    means = np.nanmean(shares[(w > 0).any(1)], 1)
    estimate, (low, high) = float(means[0]), np.quantile(means[1:], [0.025, 0.975]) if len(means) > 1 else (0.0, 1.0)
    if high == low:
        return min(1.0, estimate), wilson(estimate, num_images)
    return min(1.0, estimate), (max(0.0, min(float(low), estimate)), min(1.0, max(float(high), estimate)))
