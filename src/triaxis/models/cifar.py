"""The paper's two families for small images: CIFAR ResNet-(6n+2) and DenseNet-(3n+4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triaxis.errors import ConfigError

MAX_DEPTH, MAX_WIDTH = 2000, 100
"""Beyond these a name is a slip of the pen: the deepest network of the paper's kind that was ever trained has 1,202 layers."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """CIFAR ResNet: three stages of n basic blocks with 16, 32 and 64 channels times `width`."""

    def __init__(self, depth: int = 20, width: float = 1.0, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        blocks_per_stage = _blocks("ResNet", depth, 6, 2)
        _require_width(width)
        channels = [max(1, round(c * width)) for c in (16, 32, 64)]
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        previous = channels[0]
        stages = []
        for stage, out in enumerate(channels):
            strides = [1 if stage == 0 else 2] + [1] * (blocks_per_stage - 1)
            stages.append(nn.Sequential(*(BasicBlock(previous if i == 0 else out, out, s) for i, s in enumerate(strides))))
            previous = out
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(previous, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(x), 1))


class DenseLayer(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution that adds `growth` channels."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu(self.bn(x)))


class DenseBlock(nn.ModuleDict):
    """Layers that each see the concatenation of the block's input and of all earlier layers' outputs."""

    def __init__(self, in_channels: int, growth: int, num_layers: int) -> None:
        super().__init__({f"layer{i}": DenseLayer(in_channels + i * growth, growth) for i in range(num_layers)})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseNet(nn.Module):
    """CIFAR DenseNet: three dense blocks of n layers; `width` multiplies the growth rate and the first channels."""

    def __init__(self, depth: int = 40, growth: int = 12, width: float = 1.0, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        num_layers = _blocks("DenseNet", depth, 3, 4)
        _require_width(width)
        growth = max(1, round(growth * width))
        channels = max(1, round(16 * width))
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        for stage in range(3):
            stages.append(DenseBlock(channels, growth, num_layers))
            channels += growth * num_layers
            if stage < 2:
                stages.append(
                    nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False), nn.AvgPool2d(2))
                )
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stages(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(x), 1))


def resnet(depth: int = 20, width: float = 1.0, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Return an untrained CIFAR ResNet of `depth` 6n+2 layers (8, 14, 20, 32, 44, 56, ...).

    Args:
        depth: Number of weighted layers on the longest path, 6n+2.
        width: Multiplies the 16, 32 and 64 channels of the stages.
        num_classes: Outputs of the classifier.
        in_channels: 3 for colour images, 1 for grey ones.

    Raises:
        ConfigError: `depth` is not 6n+2, or depth or width is beyond all measure.
    """
    return ResNet(depth, width, num_classes, in_channels)


def densenet(depth: int = 40, growth: int = 12, width: float = 1.0, num_classes: int = 10, in_channels: int = 3) -> DenseNet:
    """Return an untrained CIFAR DenseNet of `depth` 3n+4 layers (16, 28, 40, 52, 64, ...), without bottlenecks.

    Raises:
        ConfigError: `depth` is not 3n+4, or depth or width is beyond all measure.
    """
    return DenseNet(depth, growth, width, num_classes, in_channels)


def _blocks(family: str, depth: int, factor: int, offset: int) -> int:
    blocks, rest = divmod(depth - offset, factor)
    if rest or blocks < 1:
        examples = ", ".join(str(factor * n + offset) for n in (1, 2, 3, 5))
        raise ConfigError(f"A CIFAR {family}'s depth must be {factor}n+{offset} with n >= 1 (for example {examples}), got {depth}.")
    if depth > MAX_DEPTH:
        raise ConfigError(f"A CIFAR {family}'s depth must be at most {MAX_DEPTH}, got {depth}.")
    return blocks


def _require_width(width: float) -> None:
    if not 0 < width <= MAX_WIDTH:
        raise ConfigError(f"A CIFAR network's width must be above 0 and at most {MAX_WIDTH}, got {width!r}.")


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
