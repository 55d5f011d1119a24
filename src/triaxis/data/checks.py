"""What images and labels must be, whoever made them: pixels of a known range, class numbers of the task."""

from __future__ import annotations

import torch
from torch import Tensor

from triaxis.errors import DataError


def check_labels(labels: Tensor, num_classes: int, name: str) -> Tensor:
    """Return labels as (N,) int64, after a check that they are whole numbers in [0, num_classes).

    Raises:
        DataError: They are not.
    """
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):
        wrong = labels[labels != labels.round()][0].item()
        raise DataError(f"The labels of the {name} split must be whole numbers from 0, got {wrong:g}.")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        low, high = int(labels.min()), int(labels.max())
        raise DataError(f"Labels must be in 0..{num_classes - 1} for {num_classes} classes, got {low}..{high} in the {name} split.")
    return labels.long()


def require_pixels(images: Tensor, name: str) -> None:
    """Check that images are of a type whose range is known.

    Raises:
        DataError: They are neither uint8 nor floating point.
    """
    if images.dtype != torch.uint8 and not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise DataError(
            f"The images of the {name} split must be uint8 pixels in 0..255, or floating point as the model wants them, got {kind}: "
            "convert them, for example with .to(torch.uint8)."
        )
