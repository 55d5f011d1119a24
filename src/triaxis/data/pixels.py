"""Pixels: what they go through before the network sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, RandAugment
from torchvision.transforms.v2 import functional as tvf

from triaxis.errors import DataError
from triaxis.values import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess(Value):
    """How pixels in [0, 1] become the network's input; kept, and scaled with the side, when the resolution is cut.

    `crop_fraction` is the share of the resized picture's side that the centre crop keeps. `mean` and `std` are None where the
    images came normalised from code of the user's own, and nobody said by what.
    """

    mean: tuple[float, ...] | None = (0.5, 0.5, 0.5)
    std: tuple[float, ...] | None = (0.25, 0.25, 0.25)
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"


def resize(images: Tensor, side_px: int, interpolation: str = "bilinear") -> Tensor:
    """Return (B, C, S, S) images at another side, with antialiasing."""
    return tvf.resize(images, [side_px, side_px], InterpolationMode(interpolation), antialias=True)


def normaliser(preprocess: Preprocess, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what makes batches like `images`, uint8 or floating point, the network's input.

    Raises:
        DataError: Mean and deviation of uint8 pixels are not known.
    """
    if images.is_floating_point():
        return lambda batch: batch.to(torch.float32)
    if preprocess.mean is None or preprocess.std is None:
        raise DataError("The Preprocess of uint8 pixels must hold mean and std, got none.")
    mean = torch.tensor(preprocess.mean, dtype=torch.float32, device=images.device).view(1, -1, 1, 1) * 255
    scale = 1 / (torch.tensor(preprocess.std, dtype=torch.float32, device=images.device).view(1, -1, 1, 1) * 255)
    return lambda batch: (batch.to(torch.float32) - mean.to(batch.device)).mul_(scale.to(batch.device))


def chosen_augment(text: str) -> RandAugment | None:
    """Read ``"2,9"``: number of operations, magnitude."""
    if not text:
        return None
    operations, magnitude = (int(part) for part in text.split(","))
    return RandAugment(operations, magnitude)
