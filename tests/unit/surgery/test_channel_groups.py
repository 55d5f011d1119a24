"""Which channels must go together: known answers on networks of a few layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triaxis.surgery.find.channels import ChannelGroup, find_groups
from triaxis.surgery.trace.tracing import trace


class Net(nn.Module):
    """Layers by name and a function that uses them."""

    def __init__(self, run, **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self, x).mean((2, 3)))


def groups_of(net: nn.Module, channels: int = 3) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    groups, whole = find_groups(net, trace(net.eval(), torch.randn(1, channels, 8, 8)))
    return {g.name: g for g in groups}, whole


def conv(i: int, o: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, padding=1, **options)


def places(group: ChannelGroup) -> dict[tuple[str, int], list[int]]:
    return {(m.tensor, m.dim): m.positions.tolist() for m in group.members}


def test_a_plain_layer_takes_its_norm_and_its_reader_along() -> None:
    groups, whole = groups_of(Net(lambda m, x: m.b(F.relu(m.norm(m.a(x)))), a=conv(3, 6), norm=nn.BatchNorm2d(6), b=conv(6, 8)))
    every = list(range(6))
    names = ["a.weight", "a.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
    assert places(groups["a"]) == {**{(n, 0): every for n in names}, ("b.weight", 1): every}
    assert set(groups) == {"a", "b"} and "output" in whole["head"]


def test_an_addition_couples_both_branches() -> None:
    groups, _ = groups_of(Net(lambda m, x: m.a(x) + m.b(x), a=conv(3, 8), b=conv(3, 8)))
    assert list(groups) == ["a"]
    assert {("a.weight", 0), ("b.weight", 0), ("head.weight", 1)} <= set(places(groups["a"]))


def test_a_concatenation_keeps_its_parts_apart() -> None:
    groups, _ = groups_of(Net(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 4), b=conv(3, 5), c=conv(9, 8)))
    assert places(groups["a"])["c.weight", 1] == [0, 1, 2, 3]
    assert places(groups["b"])["c.weight", 1] == [4, 5, 6, 7, 8]


def test_a_depthwise_convolution_follows_its_input() -> None:
    groups, _ = groups_of(Net(lambda m, x: m.b(m.deep(m.a(x))), a=conv(3, 6), deep=conv(6, 12, groups=6), b=conv(12, 8)))
    assert places(groups["a"])["deep.weight", 0] == list(range(12))
    assert groups["a"].num_units == 6 and places(groups["a"])["b.weight", 1] == list(range(12))


def test_a_grouped_convolution_loses_whole_groups_when_it_has_many() -> None:
    groups, _ = groups_of(Net(lambda m, x: m.b(m.g(m.a(x))), a=conv(3, 16), g=conv(16, 16, groups=8), b=conv(16, 8)))
    assert groups["a"].num_channels == 16 and groups["a"].num_units == 8
    assert groups["a"].unit_of.tolist() == [i // 2 for i in range(16)]


def test_a_grouped_convolution_loses_the_same_channels_everywhere_when_it_has_few() -> None:
    groups, _ = groups_of(Net(lambda m, x: m.b(m.g(m.a(x))), a=conv(3, 16), g=conv(16, 16, groups=2), b=conv(16, 8)))
    assert groups["a"].unit_of.tolist() == [i % 8 for i in range(16)]
    assert places(groups["a"])["g.weight", 1] == list(range(8))


def test_halves_of_a_chunk_lose_the_same_channels() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        first, second = m.a(x).chunk(2, 1)
        return m.b(first * torch.sigmoid(second))

    groups, _ = groups_of(Net(run, a=conv(3, 12), b=conv(6, 8)))
    assert groups["a"].unit_of.tolist() == [i % 6 for i in range(12)]


def test_a_flattened_map_removes_all_positions_of_a_channel() -> None:
    net = nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(4 * 64, 5), nn.ReLU(), nn.Linear(5, 3))
    groups, _ = groups_of(net)
    assert places(groups["0"])["2.weight", 1] == list(range(256))
    assert places(groups["0"])["0.weight", 0] == [0, 1, 2, 3]


def test_group_norm_loses_whole_groups_and_layer_scale_follows() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.gamma, self.head = conv(3, 8), nn.GroupNorm(4, 8), nn.Parameter(torch.ones(8, 1, 1)), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.norm(self.a(x)) * self.gamma).mean((2, 3)))

    groups, _ = groups_of(Scaled())
    assert groups["a"].num_units == 4 and places(groups["a"])["gamma", 0] == list(range(8))


def test_channels_added_to_the_image_stay() -> None:
    groups, whole = groups_of(Net(lambda m, x: m.b(m.a(x) + x), a=conv(3, 3), b=conv(3, 8)))
    assert list(groups) == ["b"] and "cannot be cut" in whole["a"]


def test_an_operation_without_a_rule_keeps_its_channels_and_is_named() -> None:
    groups, whole = groups_of(Net(lambda m, x: m.b(torch.sort(m.a(x), 1).values), a=conv(3, 6), b=conv(6, 8)))
    assert list(groups) == ["b"] and "sort has no channel rule" in whole["a"]


def test_a_fixed_padding_of_channels_stays_in_place() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        narrow = m.a(x)
        return m.b(narrow) + F.pad(narrow, (0, 0, 0, 0, 2, 2))

    groups, whole = groups_of(Net(run, a=conv(3, 4), b=conv(4, 8)))
    assert places(groups["a"])["b.weight", 0] == [2, 3, 4, 5]
    assert "padding" in whole["b"]


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_parameters_do_not_hide_channels(frozen: bool) -> None:
    net = Net(lambda m, x: m.b(m.a(x)), a=conv(3, 6), b=conv(6, 8)).requires_grad_(not frozen)
    assert set(groups_of(net)[0]) == {"a", "b"}


def test_a_single_input_channel_is_not_taken_for_depthwise() -> None:
    groups, _ = groups_of(Net(lambda m, x: m.b(m.a(x)), a=conv(1, 6), b=conv(6, 8)), channels=1)
    assert groups["a"].num_units == 6
