"""Models that take more than pictures: the arguments are made in front of them, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from triaxis.errors import ConfigError
from triaxis.metrics.macs import count_macs
from triaxis.surgery.surgeon import Surgeon
from triaxis.surgery.trace.inputs import called_with, for_export


class Pair(nn.Module):
    """Two views of a scene, each through its own stem."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.join = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        both = torch.cat([torch.relu(self.left(left)), torch.relu(self.right(right))], 1)
        return self.head(torch.relu(self.join(both)).mean((2, 3)))


def two_views(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures[:, :3], pictures[:, 3:]


def test_a_model_of_two_pictures_is_cut_and_counted() -> None:
    surgeon = Surgeon.examine(Pair(), side_px=16, in_channels=6, example_input=two_views, round_to=2)
    assert {g.name for g in surgeon.anatomy.groups} == {"left", "right", "join"}
    cut = surgeon.cut(surgeon.plan(width=0.5, side_px=8))
    assert count_macs(cut, (6, 8, 8)) == 2 * 27 * 4 * 64 + 8 * 9 * 4 * 64 + 4 * 5
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(cut(x), cut(x[:, :3], x[:, 3:]))


def test_the_function_is_kept_by_copies_and_set_once() -> None:
    model = called_with(called_with(Pair(), two_views), two_views)
    assert len(model._forward_pre_hooks) == 1
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert torch.equal(for_export(model)(x), model(x)) and "left.weight" in model.state_dict()
    plain = nn.Linear(2, 2)
    assert for_export(plain) is plain and called_with(plain, None) is plain


def test_a_function_that_fails_or_returns_something_else_is_named() -> None:
    x = torch.randn(2, 6, 8, 8)
    with pytest.raises(ConfigError, match=r"shape \(2, 6, 8, 8\), but it raised KeyError"):
        called_with(Pair(), lambda pictures: {}["views"])(x)
    with pytest.raises(ConfigError, match="must return a tuple of the model's arguments, or a mapping of them by name, got int"):
        called_with(Pair(), lambda pictures: 3)(x)
    with pytest.raises(ConfigError, match="example_input must name an importable"):
        called_with(Pair(), "nowhere:two_views")
    with pytest.raises(ConfigError, match="example_input must name a function"):
        called_with(Pair(), "triaxis:__name__")
