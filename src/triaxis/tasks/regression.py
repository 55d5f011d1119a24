"""Regression: a vector of K numbers for each image, by 1 minus the normalised error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from triaxis.errors import DataError
from triaxis.maths import interval
from triaxis.tasks.base import Score
from triaxis.tasks.per_image import PerImage, gathered
from triaxis.values import Recipe


class Regression(PerImage):
    """Outputs and targets (B, K) of numbers.

    Loss and distillation are smooth L1 distances. The normalised error of a number is its mean absolute error over that of the
    best constant, the median of the targets; the score is 1 minus the mean over the K numbers, and never below 0.
    """

    name = "regression"
    words = "number for each of the targets"

    def loss(self, output: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
        """Return the smooth L1 distance from the targets."""
        return F.smooth_l1_loss(output, targets)

    def distillation(self, output: Tensor, taught: Tensor, *, temperature: float, weight: float) -> Tensor:
        """Return weight times the smooth L1 distance from the teacher; a temperature has no meaning here."""
        return weight * F.smooth_l1_loss(output, taught)

    def score(self, observed: Sequence[Any]) -> Score:
        """Return 1 minus the normalised error, with a t-interval over images.

        Raises:
            DataError: All targets of the split are alike.
        """
        outputs, targets = (part.double() for part in gathered(observed))
        spread = (targets - targets.median(0).values).abs().mean(0)
        varies = spread > 0
        if not bool(varies.any()):
            raise DataError("The targets of a split must differ for the task regression, but each number is the same for all images.")
        errors = ((outputs - targets).abs()[:, varies] / spread[varies]).mean(1)
        low, high = interval.of_mean(errors.tolist())
        value, bounds = (_share(1 - errors.mean().item()), (_share(1 - high), _share(1 - low)))
        return Score(value, bounds, F.smooth_l1_loss(outputs, targets).item(), {"mean_absolute_error": _mean_error(outputs, targets)})


def _mean_error(outputs: Tensor, targets: Tensor) -> float:
    return (outputs - targets).abs().mean().item()


def _share(number: float) -> float:
    return min(1.0, max(0.0, number))
