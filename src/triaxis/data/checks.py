"""What images must be, whoever made them: pixels of a known range. What labels must be, the task says."""

from __future__ import annotations

import torch
from torch import Tensor

from triaxis.errors import DataError


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
