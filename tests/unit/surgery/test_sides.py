"""Which sides a model takes: one that brings every picture to a side of its own saves nothing by smaller ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from triaxis.surgery.surgeon import Surgeon


class Rescaling(nn.Module):
    """Brings pictures to 16 px, as CrossViT does to the sides of its two branches."""

    def __init__(self, own_px: int | None) -> None:
        super().__init__()
        self.own_px = own_px
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.own_px is None else F.interpolate(x, self.own_px)
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_a_model_that_rescales_pictures_has_no_choice_of_side() -> None:
    found = Surgeon.examine(Rescaling(16), side_px=16).anatomy
    assert found.sides_px == (16,)
    assert found.closed["resolution"] == "Only 16 px works: the model brings pictures to a side of its own, so that 8 px cost as much."
    assert Surgeon.examine(Rescaling(None), side_px=16).anatomy.sides_px[-1] == 8
