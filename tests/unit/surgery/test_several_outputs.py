"""Models that return mappings, tuples, dataclasses and maps of pixels are read, cut and proved like any other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from triaxis.surgery.cut.sides import follows
from triaxis.surgery.proof import disagreement, shaken
from triaxis.surgery.surgeon import Surgeon

EXACT = 1e-5


@dataclass
class Found:
    out: Tensor
    parts: list[Tensor]


RETURNS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "mapping": lambda main, aux: OrderedDict(out=main, aux=aux),
    "tuple": lambda main, aux: (main, aux),
    "nested": lambda main, aux: [{"levels": (main, [aux])}],
    "dataclass": lambda main, aux: Found(main, [aux]),
}


class Dense(nn.Module):
    """Two residual blocks, a head on the pixels of the last, and one on those of the first, in any container."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for _ in range(3))
        self.head, self.aux = nn.Conv2d(16, 5, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Any:
        x = first = self.stem(x).relu()
        for block in self.blocks:
            x = x + block(x)
        main = nn.functional.interpolate(self.head(x), scale_factor=2, mode="bilinear", align_corners=False)
        return RETURNS[self.kind](main, self.aux(first))


def examined(kind: str) -> Surgeon:
    torch.manual_seed(0)
    model = Dense(kind)
    model.load_state_dict({**model.state_dict(), **shaken(model)})
    return Surgeon.examine(model, side_px=16, round_to=1)


@pytest.mark.parametrize("kind", RETURNS)
def test_all_axes_are_open_and_every_output_is_proved(kind: str) -> None:
    surgeon = examined(kind)
    assert surgeon.anatomy.closed == {} and min(surgeon.sides_px()) == 8
    plan = surgeon.plan(removed_blocks=surgeon.removable(surgeon.identity())[:1], width=0.5, side_px=12)
    cut, images = surgeon.cut(plan), torch.randn(2, 3, 12, 12)
    assert cut.stem.out_channels == 8 and cut.head.out_channels == cut.aux.out_channels == 5, "outputs stay whole"
    assert disagreement(cut, surgeon.masked(plan), images) < EXACT
    with torch.no_grad():
        cut.aux.weight[0] += 1
    assert disagreement(cut, surgeon.masked(plan), images) > 1e-2, "the auxiliary output is compared too"


@pytest.mark.parametrize(
    ("now", "base", "fits"),
    [
        ((1, 10), (1, 10), True),
        ((1, 8), (1, 10), False),
        ((1, 5, 8, 8), (1, 5, 16, 16), True),
        ((1, 5, 20, 20), (1, 5, 16, 16), False),
        ((2, 5, 8, 8), (1, 5, 16, 16), False),
        ((1, 30, 4), (1, 120, 4), True),
        ((1, 5, 0, 8), (1, 5, 16, 16), False),
        ((1, 5), (1, 5, 1), False),
    ],
)
def test_outputs_of_pixels_may_follow_the_side_and_those_of_images_may_not(now: tuple[int, ...], base: tuple[int, ...], fits: bool) -> None:
    assert follows((now,), (base,)) is fits
    assert not follows((now, now), (base,))
