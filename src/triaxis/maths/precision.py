"""Mean average precision of detection, as COCO has it, and its interval.

Notation:
    t      a least overlap at which a found box counts as right, one of 0.50, 0.55, .. 0.95
    w_i    how often image i is drawn; 1 for the estimate
    TP_d   sum of w over the right boxes among the d with the highest scores;  FP_d likewise the wrong ones
    R_d    recall TP_d / sum_i w_i n_i, where image i has n_i boxes of the class;  P_d precision TP_d / (TP_d + FP_d)
    AP     mean over r = 0, 0.01, .. 1 of max P_d over all d with R_d >= r, 0 where there is none

The mean average precision is the mean of AP over classes and t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from triaxis.maths.interval import DRAWS, MOST_DRAWN, wilson

OVERLAPS = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class ClassMatches:
    """Found boxes of one class by falling score: `images` (D,) where each is, `is_right` (T, D); `num_right` (N,) boxes there are."""

    images: np.ndarray
    is_right: np.ndarray
    num_right: np.ndarray


@dataclass(frozen=True)
class Matches:
    """Found boxes of a split of `num_images` images by class, for each class that occurs."""

    num_images: int
    of_class: Mapping[int, ClassMatches]


def mean_average_precision(matches: Matches, *, seed: int = 0) -> tuple[float, tuple[float, float], dict[str, float]]:
    """Return the mean average precision, its 95 % interval by a bootstrap over images, and it at some overlaps by name.

    Where all draws are alike, as with perfect boxes, the width is that of an accuracy.

    Args:
        matches: What was found; some class occurs.
        seed: Of the draws; the same numbers give the same interval.
    """
    size = len(OVERLAPS) * sum(len(found.images) for found in matches.of_class.values())
    num_draws = int(np.clip(MOST_DRAWN / max(size, 1), *DRAWS))
    shares = np.full(matches.num_images, 1 / matches.num_images)
    drawn = np.random.default_rng(seed).multinomial(matches.num_images, shares, num_draws).astype(float)
    weights = np.vstack([np.ones(matches.num_images), drawn])
    by_class = np.stack([average_precision(found, weights) for found in matches.of_class.values()])
    estimate, drawn_means = float(by_class[:, 0].mean()), _mean_of_known(by_class[:, 1:])
    numbers = {"mean_average_precision": estimate, "at_50": float(by_class[:, 0, 0].mean()), "at_75": float(by_class[:, 0, 5].mean())}
    low, high = np.quantile(drawn_means, [0.025, 0.975])
    if high == low:
        return estimate, wilson(estimate, matches.num_images), numbers
    return estimate, (min(float(low), estimate), max(float(high), estimate)), numbers


def _mean_of_known(by_class: np.ndarray) -> np.ndarray:
    """Return the means of (classes, draws, T) over classes and T; a class that a draw leaves out has no precision there."""
    is_known = ~np.isnan(by_class)
    counts = is_known.sum((0, 2))
    return np.where(is_known, by_class, 0.0).sum((0, 2))[counts > 0] / counts[counts > 0]


def average_precision(found: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """Return AP of one class, (draws, T); NaN where a draw has no box of it.

    Args:
        found: The class's boxes.
        weights: (draws, N) w_i.
    """
    num_right, result = weights @ found.num_right, np.zeros((len(weights), len(found.is_right)))
    drawn = weights[:, found.images]
    for t, is_right in enumerate(found.is_right):
        right = np.cumsum(drawn * is_right, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = right / num_right[:, None]
            precision = np.nan_to_num(right / np.cumsum(drawn, 1))
        best = np.hstack([np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1], np.zeros((len(weights), 1))])
        for draw in range(len(weights)):
            result[draw, t] = best[draw, np.searchsorted(recall[draw], RECALLS)].mean()
    result[num_right == 0] = np.nan
    return result
