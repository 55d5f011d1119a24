"""The benchmark's own network: inverted residuals with depthwise convolutions, as in MobileNetV2, laid out for 32 px."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGES = ((16, 3, 1), (40, 3, 2), (96, 3, 2))
"""Channels, blocks and first stride of each stage."""

EXPANSION = 4
STEM, HEAD = 16, 256


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel by itself, narrow again; a shortcut where the shape stays."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * in_channels
        self.widen = nn.Sequential(nn.Conv2d(in_channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        self.filter = nn.Sequential(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        self.narrow = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.is_residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(self.filter(self.widen(x)))
        return x + y if self.is_residual else y


class DepthwiseNet(nn.Module):
    """Three stages of inverted residuals for (B, 3, S, S) images, S about 32; 32 M multiply-accumulates at 32 px and 50 classes."""

    def __init__(self, num_classes: int = 50) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, 1, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU())
        stages, channels = [], STEM
        for out_channels, num_blocks, stride in STAGES:
            blocks = [InvertedResidual(channels, out_channels, stride)]
            blocks += [InvertedResidual(out_channels, out_channels, 1) for _ in range(num_blocks - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Conv2d(channels, HEAD, 1, bias=False), nn.BatchNorm2d(HEAD), nn.ReLU())
        self.fc = nn.Linear(HEAD, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.stages(self.stem(x)))
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


def depthwise(num_classes: int = 50) -> DepthwiseNet:
    """Return the network with fresh weights; name it in a configuration as ``rivals.networks:depthwise``."""
    return DepthwiseNet(num_classes)
