"""What part of each stored picture of a batch is shown: the crop and the mirroring that targets with places must follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A square of `side_px` out of each stored picture of a batch, mirrored beyond the picture's edges.

    `offsets` (B, 2) int64 are the top and the left of the square, in pixels of the picture with `pad` pixels more on each side;
    `flips` (B,) bool says which squares are shown from right to left.
    """

    offsets: Tensor
    flips: Tensor
    pad: int
    side_px: int

    @classmethod
    def middle(cls, num_images: int, stored_px: int, side_px: int) -> Window:
        """Return the square in the middle, not flipped."""
        start = (stored_px - side_px) // 2
        return cls(torch.full((num_images, 2), start), torch.zeros(num_images, dtype=torch.bool), 0, side_px)

    def is_whole(self, stored_px: int) -> bool:
        """Whether every picture of this side is shown as it is."""
        return self.side_px == stored_px and not bool((self.offsets != self.pad).any()) and not bool(self.flips.any())

    def rows_and_columns(self, stored_px: int) -> tuple[Tensor, Tensor]:
        """Return (B, side_px) int64 each: which row, and which column, of the stored picture is shown at each place.

        Edges are mirrored: black margins would shift the batch-norm statistics.
        """
        last, reach = stored_px - 1, torch.arange(self.side_px) - self.pad
        rows, columns = (last - (last - (self.offsets[:, axis, None] + reach).abs()).abs() for axis in (0, 1))
        return rows, torch.where(self.flips[:, None], columns.flip(1), columns)

    def of(self, pictures: Tensor) -> Tensor:
        """Return what is shown of (B, C, S, S) pictures, or of (B, S, S) masks."""
        rows, columns = (places.to(pictures.device) for places in self.rows_and_columns(pictures.shape[-1]))
        batch = torch.arange(len(pictures), device=pictures.device)[:, None, None]
        if pictures.ndim == 3:
            return pictures[batch, rows[:, :, None], columns[:, None, :]]
        # Indexing around the channel slice gives (B, H, W, C): channels_last memory for free.
        return pictures[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
