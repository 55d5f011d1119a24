"""Which blocks are found: the paper's families by number, others by what they do."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from triaxis.models import cifar
from triaxis.surgery.find.blocks import Block, find_blocks, returns_input, stages
from triaxis.surgery.find.channels import find_groups
from triaxis.surgery.trace.tracing import trace


def blocks_of(model: nn.Module, side_px: int = 32) -> list[Block]:
    example = torch.randn(1, 3, side_px, side_px)
    tracer = trace(model.eval(), example)
    return find_blocks(model, tracer, find_groups(model, tracer)[0])


@pytest.mark.parametrize(
    ("make", "num_blocks", "num_removable", "num_stages", "kind"),
    [
        (lambda: cifar.resnet(20), 9, 7, 3, "residual"),
        (lambda: cifar.resnet(56), 27, 25, 3, "residual"),
        (lambda: cifar.densenet(40), 36, 36, 3, "dense"),
        (torchvision.models.resnet18, 8, 5, 4, "residual"),
        (torchvision.models.mobilenet_v2, 17, 10, 7, "residual"),
    ],
)
def test_known_families(make, num_blocks: int, num_removable: int, num_stages: int, kind: str) -> None:
    blocks = blocks_of(make())
    assert len(blocks) == num_blocks
    assert sum(b.is_removable for b in blocks) == num_removable
    assert len(set(stages(blocks).values())) == num_stages
    assert {b.kind for b in blocks} == {kind}


def test_a_plain_network_is_cut_in_runs_of_layer_norm_and_activation() -> None:
    layers: list[nn.Module] = []
    for i, o in [(3, 8), (8, 8), (8, 8), (8, 16), (16, 16)]:
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
    model = nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
    blocks = blocks_of(model, 8)
    assert [b.modules for b in blocks if b.is_removable] == [("0.3", "0.4", "0.5"), ("0.6", "0.7", "0.8"), ("0.12", "0.13", "0.14")]
    assert [b.kind for b in blocks] == ["sequence"] * 5
    assert list(stages(blocks).values()) == ["0.0", "0.0", "0.0", "0.9", "0.9"]


def test_a_chain_is_seen_through_its_wrappers_and_a_bottleneck_is_no_chain() -> None:
    def unit() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 1))

    stage = nn.Sequential(nn.Identity(), nn.Sequential(unit(), unit(), unit()))
    blocks = blocks_of(nn.Sequential(nn.Conv2d(3, 8, 1), stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)), 8)
    assert [b.name for b in blocks] == ["1.1.0", "1.1.1", "1.1.2"]


class Branch(nn.Module):
    """Squeeze-excite and layer scale inside the branch, dropped at random in training."""

    def __init__(self, act: bool) -> None:
        super().__init__()
        self.conv, self.gate, self.scale, self.act = (
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Conv2d(8, 8, 1),
            nn.Parameter(torch.ones(8, 1, 1)),
            act,
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.relu())
        y = torchvision.ops.stochastic_depth(y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid() * self.scale, 0.2, "row", self.training)
        return (x + y).relu() if self.act else x + y


@pytest.mark.parametrize("act", [True, False])
def test_a_block_is_the_innermost_module_that_adds_to_its_input(act: bool) -> None:
    stage = nn.ModuleList([nn.Sequential(Branch(act)), nn.Sequential(Branch(act))])
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), *stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    blocks = blocks_of(model, 8)
    assert [(b.name, b.kind) for b in blocks] == [("2.0", "residual"), ("3.0", "residual")]


def test_torchvision_dense_layers_make_their_channels() -> None:
    model = torchvision.models.DenseNet(growth_rate=4, block_config=(2, 3), num_init_features=8, num_classes=2)
    blocks = blocks_of(model, 32)
    assert [b.name for b in blocks] == [f"features.denseblock{i}.denselayer{j}" for i, n in ((1, 2), (2, 3)) for j in range(1, n + 1)]
    assert all(b.made == (f"{b.name}.conv2",) for b in blocks)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y: x + y, True),
        (lambda x, y: torch.relu(x + y), True),
        (lambda x, y: nn.functional.silu(x + y), True),
        (lambda x, y: nn.functional.leaky_relu(x + y, 0.1), True),
        (lambda x, y: x * torch.sigmoid(y), False),
        (lambda x, y: y, False),
        (lambda x, y: torch.cat([x[:, :4], y[:, 4:]], 1), False),
        (lambda x, y: nn.functional.avg_pool2d(x, 3, 1, 1) + y, False),
    ],
)
def test_what_a_zeroed_module_must_return(function, expected: bool) -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return function(x, self.conv(x))

    assert returns_input(Module(), torch.Size((1, 8, 6, 6))) is expected


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Mixed(nn.Module):
    """A block whose token mixer is residual by itself, as FastViT's; it is told the side, too."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer, self.mlp = Mixer(), nn.Conv2d(8, 8, 5, padding=2)

    def forward(self, x: Tensor, side: int) -> Tensor:
        assert x.shape[-1] == side
        x = self.mixer(x)
        return x + self.mlp(x)


def test_a_blocks_small_residual_part_is_no_block() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks, self.head = nn.Conv2d(3, 8, 1), nn.ModuleList(Mixed() for _ in range(3)), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x, 6)
            return self.head(x.mean((2, 3)))

    net = Net().eval()
    tracer = trace(net, torch.randn(1, 3, 6, 6))
    found = find_blocks(net, tracer, find_groups(net, tracer)[0])
    assert [(b.name, b.kind, b.is_removable) for b in found] == [(f"blocks.{i}", "residual", True) for i in range(3)]
