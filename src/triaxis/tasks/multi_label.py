"""Multi-label: any number of K labels for each image, by mean average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from triaxis.errors import DataError
from triaxis.maths import interval
from triaxis.tasks.base import Score
from triaxis.tasks.per_image import PerImage, gathered
from triaxis.values import Recipe


class MultiLabel(PerImage):
    """Outputs (B, K) logits, targets (N, K) of 0 and 1.

    The loss is the binary cross-entropy of each label; the distillation the same towards the teacher's sigmoid at temperature T,
    times T^2. The score is the mean of the average precisions of the labels that occur.
    """

    name = "multi_label"
    words = "logit for each label"

    def check_targets(self, targets: Tensor, num_outputs: int, name: str) -> Tensor:
        """Return (N, K) float32 of 0 and 1."""
        targets = super().check_targets(targets, num_outputs, name)
        if not bool(((targets == 0) | (targets == 1)).all()):
            wrong = targets[(targets != 0) & (targets != 1)][0].item()
            raise DataError(f"The labels of the {name} split must be 0 or 1 for the task multi_label, got {wrong:g}.")
        return targets

    def loss(self, output: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
        """Return the binary cross-entropy, a mean over images and labels."""
        return F.binary_cross_entropy_with_logits(output, targets)

    def distillation(self, output: Tensor, taught: Tensor, *, temperature: float, weight: float) -> Tensor:
        """Return weight T^2 BCE(sigmoid(z / T), sigmoid(t / T))."""
        soft = torch.sigmoid(taught / temperature)
        return weight * temperature**2 * F.binary_cross_entropy_with_logits(output / temperature, soft)

    def score(self, observed: Sequence[Any]) -> Score:
        """Return the mean average precision, with an interval by a bootstrap over images.

        Raises:
            DataError: No label occurs in the split.
        """
        logits, targets = gathered(observed)
        loss = F.binary_cross_entropy_with_logits(logits.double(), targets.double()).item()
        occurs = targets.sum(0) > 0
        if not bool(occurs.any()):
            raise DataError("A split must have some image with a label for the task multi_label, but every target is 0.")
        value, bounds = interval.mean_average_precision(_array(logits[:, occurs]), _array(targets[:, occurs]))
        return Score(value, bounds, loss, {"mean_average_precision": value})

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the sigmoid."""
        return output.sigmoid()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()
