"""Detectors by name: torchvision's own, and the same three families on small backbones and for small pictures."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from triaxis.errors import ConfigError

MOBILE = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")

ASPECTS, SCALES = (0.5, 1.0, 2.0), (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""RetinaNet's anchors of each place, as in the paper: shapes, and sides as multiples of the map's anchor side."""


class Pyramid(nn.Module):
    """A feature pyramid on any backbone of timm's: maps of one number of channels at strides that double.

    Args:
        backbone: Name of a model of timm's.
        channels: Of each map.
        levels: The powers of two that the maps' strides are, rising; those above 5 are made from the map of the one before.
    """

    def __init__(self, backbone: str, channels: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        import timm

        try:
            whole: Any = timm.create_model(backbone, pretrained=False, features_only=True)
        except Exception as error:  # noqa: BLE001 - timm's models fail as they may
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"model.args.backbone must be a model of timm's that gives feature maps, got {backbone!r}: {reason}."
            ) from None
        strides = whole.feature_info.reduction()
        missing = [2**level for level in levels if level <= 5 and 2**level not in strides]
        if missing:
            raise ConfigError(f"model.args.backbone must have feature maps at strides {missing}, but {backbone} has them at {strides}.")
        wanted = tuple(strides.index(2**level) for level in levels if level <= 5)
        self.body = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=wanted)
        more = LastLevelP6P7(channels, channels) if max(levels) > 5 else None
        self.fpn = FeaturePyramidNetwork(whole.feature_info.channels(wanted), channels, more)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps, (B, channels, S / stride, S / stride) each, the finest first."""
        return self.fpn(OrderedDict((str(n), part) for n, part in enumerate(self.body(images))))


def retinanet(
    num_classes: int, *, backbone: str = "mobilenetv3_small_100", channels: int = 128, first_level: int = 3, last_level: int = 7,
    anchor_scale: float = 4.0,
) -> RetinaNet:  # fmt: skip
    """Return a RetinaNet with group norm in its heads.

    Args:
        num_classes: With the background.
        backbone: Name of a model of timm's.
        channels: Of the pyramid and the heads, a multiple of 16.
        first_level: Power of two that the finest map's stride is.
        last_level: That of the coarsest: up to 5, or 7.
        anchor_scale: A map's smallest anchor over its stride.
    """
    levels = _levels(first_level, last_level)
    sizes = tuple(tuple(round(anchor_scale * 2**level * scale) for scale in SCALES) for level in levels)
    norm = functools.partial(nn.GroupNorm, _groups(channels, 16))
    head = RetinaNetHead(channels, len(ASPECTS) * len(SCALES), num_classes, norm_layer=norm)
    return RetinaNet(
        Pyramid(backbone, channels, levels),
        num_classes,
        anchor_generator=AnchorGenerator(sizes, (ASPECTS,) * len(levels)),
        head=head,
    )


def fcos(
    num_classes: int, *, backbone: str = "mobilenetv3_small_100", channels: int = 128, first_level: int = 3, last_level: int = 7,
    num_convs: int = 4,
) -> FCOS:  # fmt: skip
    """Return an FCOS.

    Args:
        num_classes: With the background.
        backbone: Name of a model of timm's.
        channels: Of the pyramid and the heads, a multiple of 32.
        first_level: Power of two that the finest map's stride is.
        last_level: That of the coarsest: up to 5, or 7.
        num_convs: Layers of each head before its last.
    """
    levels = _levels(first_level, last_level)
    _groups(channels, 32)
    anchors = AnchorGenerator(tuple((2**level,) for level in levels), ((1.0,),) * len(levels))
    head = FCOSHead(channels, 1, num_classes, num_convs)
    return FCOS(Pyramid(backbone, channels, levels), num_classes, anchor_generator=anchors, head=head)


def ssdlite(num_classes: int, *, backbone: str = "mobilenet_v3_small", width_mult: float = 1.0, side_px: int = 320) -> SSD:
    """Return an SSDLite on one of torchvision's mobile networks; each sixth of its boxes comes from one of six maps.

    Args:
        num_classes: With the background.
        backbone: mobilenet_v2, mobilenet_v3_small or mobilenet_v3_large.
        width_mult: Of the backbone's and the added layers' channels.
        side_px: Of the pictures.
    """
    if backbone not in MOBILE:
        raise ConfigError(f"model.args.backbone of detection:ssdlite must be one of {', '.join(MOBILE)}, got {backbone!r}.")
    norm = functools.partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    features = models.get_model(backbone, weights=None, width_mult=width_mult, norm_layer=norm).features
    last_strided = max(n for n, block in enumerate(features[:-1]) if _halves(block))
    if not hasattr(features[last_strided], "block"):  # MobileNetV2 calls its layers so
        features[last_strided].block = features[last_strided].conv
    body = SSDLiteFeatureExtractorMobileNet(features, last_strided, norm, width_mult)
    anchors = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    head = SSDLiteHead(_out_channels(body, side_px), anchors.num_anchors_per_location(), num_classes, norm)
    statistics = [0.5, 0.5, 0.5]
    return SSD(body, anchors, (side_px, side_px), num_classes, head=head, image_mean=statistics, image_std=statistics, nms_thresh=0.55)


FAMILIES: dict[str, Callable[..., nn.Module]] = {"fcos": fcos, "retinanet": retinanet, "ssdlite": ssdlite}
"""The zoo ``detection``."""


def torchvision_names() -> list[str]:
    """Return torchvision's own detectors of one stage."""
    return [name for name in models.list_models(module=models.detection) if name.startswith(("ssd", "retinanet", "fcos"))]


def torchvision_detector(name: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    """Return one of torchvision's own detectors, untrained."""
    return models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **args)


def _levels(first: int, last: int) -> tuple[int, ...]:
    if not 2 <= first < last or (last > 5 and last != 7):
        raise ConfigError(f"model.args must have first_level from 2 and last_level above it, up to 5 or 7, got {first} and {last}.")
    return tuple(range(first, last + 1))


def _groups(channels: int, groups: int) -> int:
    if channels % groups:
        raise ConfigError(
            f"model.args.channels must be a multiple of {groups}, since the heads normalise in {groups} groups, got {channels}."
        )
    return groups


def _halves(block: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.stride == (2, 2) for m in block.modules())


def _out_channels(body: nn.Module, side_px: int) -> list[int]:
    body.eval()
    with torch.no_grad():
        found = [part.shape[1] for part in body(torch.zeros(1, 3, side_px, side_px)).values()]
    body.train()
    return found
