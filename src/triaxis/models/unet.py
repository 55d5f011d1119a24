"""U-Nets: an encoder, a decoder that goes back up beside it, and logits for each pixel at the side of the picture.

`unet` has residual blocks at every level, so that depth can be cut; `encoder_unet` puts a decoder on any of timm's encoders, as the
package segmentation-models does. Features are brought to the side of the level that they join, so that any side of the picture works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triaxis.errors import ConfigError
from triaxis.models.cifar import BasicBlock

MOST_LEVELS, MOST_BLOCKS, MOST_WIDTH, MOST_STRIDE = 8, 100, 4096, 8
"""Beyond these an argument is a slip of the pen."""

DECODER = (128, 64, 32, 16, 16, 16, 16, 16)
"""Channels of the decoder on an encoder of timm's, from its deepest level up."""


class Join(nn.Module):
    """Brings deep features to the side of others, lays both beside each other, and mixes them."""

    def __init__(self, deep: int, skip: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(deep + skip, channels, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        raised = F.interpolate(deep, skip.shape[-2:], mode="nearest")
        return torch.relu(self.bn(self.conv(torch.cat([raised, skip], 1))))


class UNet(nn.Module):
    """Levels of `width`, 2 `width`, 4 `width` ... channels, each at half the side of the one before; returns (B, K, S, S) logits."""

    def __init__(self, num_classes: int, width: int, levels: int, blocks: int, stride: int) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(levels)]
        self.stem = nn.Conv2d(3, width, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.down = nn.ModuleList(_stage(channels[max(0, level - 1)], out, blocks) for level, out in enumerate(channels))
        pairs = list(zip(channels[1:], channels, strict=False))[::-1]
        # Not a stride of the shortcut: backward through a narrow 1x1 convolution of stride 2 in channels_last crashes torch 2.15.
        self.pool = nn.MaxPool2d(2)
        self.join = nn.ModuleList(Join(deep, skip, skip) for deep, skip in pairs)
        self.up = nn.ModuleList(_stage(skip, skip, blocks) for _, skip in pairs)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        x, skips = torch.relu(self.bn(self.stem(images))), []
        for level, stage in enumerate(self.down):
            x = stage(self.pool(x) if level else x)
            skips.append(x)
        for join, stage, skip in zip(self.join, self.up, skips[-2::-1], strict=True):
            x = stage(join(x, skip))
        return at_side_of(images, self.head(x))


class EncoderUNet(nn.Module):
    """A decoder on the levels of an encoder; returns (B, K, S, S) logits."""

    def __init__(self, encoder: nn.Module, levels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        joins, deep = [], levels[-1]
        for skip, channels in zip(levels[-2::-1], DECODER, strict=False):
            joins.append(Join(deep, skip, channels))
            deep = channels
        self.decoder = nn.ModuleList(joins)
        self.head = nn.Conv2d(deep, num_classes, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        *skips, x = self.encoder(images)
        for join, skip in zip(self.decoder, skips[::-1], strict=True):
            x = join(x, skip)
        return at_side_of(images, self.head(x))


def at_side_of(images: Tensor, logits: Tensor) -> Tensor:
    """Return logits (B, K, h, w) at the side of the images, bilinear."""
    if logits.shape[-2:] == images.shape[-2:]:
        return logits
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def unet(num_classes: int = 2, width: int = 16, levels: int = 4, blocks: int = 2, stride: int = 1) -> UNet:
    """Return a U-Net with residual blocks.

    Args:
        num_classes: Of each pixel.
        width: Channels of the first level.
        levels: Sides of the picture, each half of the one before.
        blocks: Residual blocks of each level, on the way down and on the way up.
        stride: Side of the picture over that of the first level; with 2 a picture costs about a quarter.

    Raises:
        ConfigError: An argument is out of range.
    """
    given = (
        ("width", width, MOST_WIDTH),
        ("levels", levels, MOST_LEVELS),
        ("blocks", blocks, MOST_BLOCKS),
        ("stride", stride, MOST_STRIDE),
    )
    for name, number, most in given:
        if type(number) is not int or not 1 <= number <= most:
            raise ConfigError(f"unet:basic must have a whole number of {name} from 1 to {most}, got {number!r}.")
    return UNet(num_classes, width, levels, blocks, stride)


def encoder_unet(encoder: str, num_classes: int = 2, **args: Any) -> EncoderUNet:
    """Return a U-Net on an untrained encoder of timm's, such as ``resnet18``.

    Raises:
        ConfigError: The encoder gives features of one level only.
    """
    import timm

    features: Any = timm.create_model(encoder, pretrained=False, features_only=True, **args)
    levels = features.feature_info.channels()
    if len(levels) < 2:
        raise ConfigError(f"The encoder of unet:{encoder} must have features of two levels or more, got {len(levels)}.")
    return EncoderUNet(features, levels, num_classes)


def _stage(channels: int, out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(BasicBlock(channels if i == 0 else out, out, 1) for i in range(blocks)))
