"""Models of segmentation are cut along every axis: torchvision's, in small, our U-Nets, and a decoder as segmentation-models has it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import FCN, DeepLabV3
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.models.segmentation.lraspp import LRASPP

from triaxis.errors import ConfigError
from triaxis.metrics.macs import count_macs
from triaxis.models.zoos import build
from triaxis.surgery.proof import disagreement, shaken
from triaxis.surgery.surgeon import Surgeon

EXACT = 1e-4


def backbone(*layers: int) -> IntermediateLayerGetter:
    """A narrow MobileNetV3 that returns the features after some layers: the last as ``out``, the one before as ``aux``."""
    features = mobilenet_v3_small(width_mult=0.25, dilated=True).features
    names = dict(zip([str(layer) for layer in layers], ("aux", "out"), strict=True))
    return IntermediateLayerGetter(features, names)


def fcn() -> nn.Module:
    return FCN(backbone(6, 12), FCNHead(144, 5), FCNHead(16, 5))


def deeplab() -> nn.Module:
    head = nn.Sequential(ASPP(144, [2, 4], 16), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 5, 1))
    return DeepLabV3(backbone(6, 12), head)


def lraspp() -> nn.Module:
    features = mobilenet_v3_small(width_mult=0.25, dilated=True).features
    return LRASPP(IntermediateLayerGetter(features, {"3": "low", "12": "high"}), 8, 144, 5, 16)


class SmpBlock(nn.Module):
    """Nearest, times two; concatenate; two convolutions."""

    def __init__(self, deep: int, skip: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(deep + skip, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))


class SmpEncoder(nn.Module):
    """Returns the picture itself and the features of each level, as a list."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 8, 16, 24)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in itertools.pairwise(sizes)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class SmpUnet(nn.Module):
    """Encoder, decoder and head apart; refuses sides that are no multiple of its stride, as the package does."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = SmpEncoder()
        self.decoder = nn.ModuleList([SmpBlock(24, 16, 16), SmpBlock(16, 8, 8), SmpBlock(8, 0, 8)])
        self.segmentation_head = nn.Sequential(nn.Conv2d(8, 5, 3, padding=1), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 8:
            raise RuntimeError(f"Wrong input shape height={x.shape[-2]}, expected a multiple of 8")
        first, *skips = self.encoder(x)[::-1]
        skips = [*skips[:-1], None]  # type: ignore[list-item]
        for block, skip in zip(self.decoder, skips, strict=True):
            first = block(first, skip)
        return self.segmentation_head(first)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "fcn": fcn,
    "deeplab": deeplab,
    "lraspp": lraspp,
    "smp": SmpUnet,
    "unet": lambda: build("unet:basic", {"width": 8, "levels": 3}, 5),
    "unet_stride": lambda: build("unet:basic", {"width": 8, "levels": 2, "stride": 2}, 5),
    "unet_timm": lambda: build("unet:test_resnet", {}, 5),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_cut_right_along_every_axis(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    model.load_state_dict({**model.state_dict(), **shaken(model)})
    surgeon = Surgeon.examine(model, side_px=64, round_to=2)
    # The encoder of unet:test_resnet has one block at each level.
    assert set(surgeon.anatomy.closed) == ({"depth"} if name == "unet_timm" else set())
    side = min(surgeon.sides_px())
    assert side <= 40
    plan = surgeon.plan(removed_blocks=surgeon.removable(surgeon.identity())[:1], width=0.5, side_px=side)
    cut = surgeon.cut(plan)
    assert disagreement(cut, surgeon.masked(plan), torch.randn(2, 3, side, side)) < EXACT
    assert count_macs(cut, (3, side, side)) < 0.5 * count_macs(surgeon.base, (3, side, side))
    raw = cut(torch.randn(2, 3, side, side))
    out = raw["out"] if isinstance(raw, dict) else raw
    assert out.shape == (2, 5, side, side), "classes stay whole, and the output follows the side"


def test_any_side_suits_a_u_net_and_multiples_that_of_segmentation_models() -> None:
    assert len(Surgeon.examine(MODELS["unet"](), side_px=16).sides_px()) == 9
    assert Surgeon.examine(SmpUnet(), side_px=32).sides_px() == (32, 24, 16)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("unet:resnet81", {}, "did you mean unet:resnet"),
        ("unet:basic", {"levels": 0}, "whole number of levels from 1 to 8"),
        ("unet:basic", {"width": 10**6}, "whole number of width from 1 to 4096"),
        ("unet:basic", {"depth": 3}, "model.args must fit unet:basic"),
        ("torchvision:fcn_resnet5", {}, "did you mean fcn_resnet50"),
    ],
)
def test_a_slip_of_the_pen_is_said(name: str, args: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(name, args, 5)
