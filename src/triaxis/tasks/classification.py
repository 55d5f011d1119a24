"""Classification: one class for each image, by accuracy or by the mean of the classes' recalls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor

from triaxis.errors import DataError
from triaxis.maths import interval
from triaxis.tasks.base import Score, Transform
from triaxis.tasks.per_image import PerImage, gathered
from triaxis.values import Recipe


class Classification(PerImage):
    """Outputs (B, K) logits, targets (N,) int64 class numbers.

    The loss is cross-entropy, the distillation T^2 KL(softmax(t / T) || softmax(z / T)) of Hinton et al. 2015.

    Args:
        by: What the score is: ``accuracy``, or ``balanced_accuracy`` for classes of uneven size.
    """

    name = "classification"
    words = "logit for each class of the data"

    def __init__(self, by: Literal["accuracy", "balanced_accuracy"] = "accuracy") -> None:
        self.by = by

    def targets(self, labels: Sequence[Any], name: str) -> Tensor:
        """Return (N,) int64."""
        return torch.tensor([class_number(label, name) for label in labels])

    def num_outputs(self, targets: Tensor) -> int:
        """Return the largest class number plus one."""
        return int(targets.max()) + 1

    def check_targets(self, targets: Tensor, num_outputs: int, name: str) -> Tensor:
        """Return (N,) int64, after a check that they are whole numbers in [0, K)."""
        if targets.ndim != 1:
            raise DataError(f"The labels of the {name} split must be one whole number for each image, got {tuple(targets.shape)}.")
        if targets.is_floating_point() and not torch.equal(targets, targets.round()):
            wrong = targets[targets != targets.round()][0].item()
            raise DataError(f"The labels of the {name} split must be whole numbers from 0, got {wrong:g}.")
        if len(targets) and (int(targets.min()) < 0 or int(targets.max()) >= num_outputs):
            low, high = int(targets.min()), int(targets.max())
            raise DataError(f"Labels must be in 0..{num_outputs - 1} for {num_outputs} classes, got {low}..{high} in the {name} split.")
        return targets.long()

    def loss(self, output: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
        """Return the cross-entropy; mixed targets (B, K) are smoothed already."""
        smoothing = 0.0 if targets.is_floating_point() else recipe.label_smoothing
        return F.cross_entropy(output, targets, label_smoothing=smoothing)

    def distillation(self, output: Tensor, taught: Tensor, *, temperature: float, weight: float) -> Tensor:
        """Return weight T^2 KL(softmax(t / T) || softmax(z / T))."""
        student, teacher = F.log_softmax(output / temperature, 1), F.log_softmax(taught / temperature, 1)
        return weight * temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)

    def transform(self, recipe: Recipe, num_outputs: int) -> Transform | None:
        """Return timm's mixup and cutmix, which turn targets into shares (B, K)."""
        if recipe.mixup == recipe.cutmix == 0:
            return None
        return Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=num_outputs)

    def score(self, observed: Sequence[Any]) -> Score:
        """Return accuracy or balanced accuracy; an interval of Wilson's, or by a bootstrap within each class."""
        logits, labels = gathered(observed)
        right = (logits.argmax(1) == labels).double()
        counts = torch.bincount(labels, minlength=logits.shape[1])
        hits = torch.bincount(labels, weights=right, minlength=logits.shape[1])
        recalls = hits[counts > 0] / counts[counts > 0]
        numbers = {"accuracy": right.mean().item(), "balanced_accuracy": recalls.mean().item()}
        loss = F.cross_entropy(logits.double(), labels).item()
        if self.by == "balanced_accuracy":
            found = interval.balanced([int(n) for n in hits.tolist()], counts.tolist())
        else:
            found = interval.wilson(numbers["accuracy"], len(labels))
        return Score(numbers[self.by], found, loss, numbers)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the softmax."""
        return output.softmax(1)


def class_number(label: Any, name: str) -> int:
    """Return a label as an int.

    Raises:
        DataError: It is not a whole number.
    """
    try:
        number = int(label)
        is_whole = bool(number == label)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        is_whole = False
    if not is_whole:
        raise DataError(f"The labels of the {name} split must be whole numbers from 0, got {_shown(label)}.")
    return number


def _shown(label: Any) -> str:
    if isinstance(label, Tensor):
        return str(label.item()) if label.numel() == 1 else f"a tensor of shape {tuple(label.shape)}"
    return repr(label)[:80]
