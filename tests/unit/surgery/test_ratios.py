"""Rounding of channel counts."""

from __future__ import annotations

import pytest
import torch

from triaxis.surgery.find.channels import ChannelGroup
from triaxis.surgery.find.ratios import MAX_LEVELS, multiple, unit_options, units_to_keep, width_levels


def group(num_channels: int, num_units: int | None = None) -> ChannelGroup:
    num_units = num_units or num_channels
    unit_of = torch.arange(num_channels) // (num_channels // num_units)
    return ChannelGroup("layer", unit_of, (), torch.arange(num_units))


@pytest.mark.parametrize(("channels", "expected"), [(64, 8), (16, 8), (15, 4), (12, 4), (8, 4), (4, 2), (3, 1), (2, 1)])
def test_multiples(channels: int, expected: int) -> None:
    assert multiple(channels, 8) == expected


@pytest.mark.parametrize(
    ("channels", "width", "kept"),
    [(64, 0.5, 32), (64, 0.55, 32), (64, 0.57, 40), (24, 0.9, 24), (24, 0.1, 8), (64, 0.01, 8), (12, 0.5, 8), (20, 1.0, 20), (20, 0.9, 20)],
)
def test_rounding_goes_to_the_nearest_multiple_and_never_below_one(channels: int, width: float, kept: int) -> None:
    assert units_to_keep(group(channels), width, 8) == kept


def test_coupled_channels_are_counted_in_units() -> None:
    assert unit_options(group(64, 16), 8) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert unit_options(group(64, 4), 8) == [1, 2, 3, 4]


def test_levels_are_distinct_thinned_and_end_near_the_least_width() -> None:
    groups = [group(n) for n in (24, 64, 256, 1024)]
    levels = width_levels(groups, 8, 0.25)
    assert len(levels) == MAX_LEVELS and levels[0] == 1.0 and 0.25 <= levels[-1] < 0.3
    counts = [tuple(units_to_keep(g, w, 8) for g in groups) for w in levels]
    assert len(set(counts)) == len(counts)
