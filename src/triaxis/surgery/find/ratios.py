"""From a keep ratio to channel counts that hardware likes."""

from __future__ import annotations

from collections.abc import Sequence

from triaxis.surgery.find.channels import ChannelGroup

MAX_LEVELS = 24


def multiple(num_channels: int, round_to: int) -> int:
    """Return the multiple that a group's channel count is rounded to.

    `round_to` for groups of at least twice that; else the largest power of two that is at most half the channels.
    """
    if num_channels >= 2 * round_to:
        return round_to
    return 1 << max(0, (num_channels // 2).bit_length() - 1)


def unit_options(group: ChannelGroup, round_to: int) -> list[int]:
    """Return the unit counts a group may keep, rising; the last is all of them."""
    step = max(1, round(multiple(group.num_channels, round_to) / group.channels_per_unit))
    return [*range(step, group.num_units, step), group.num_units]


def nearest_option(group: ChannelGroup, wanted: float, round_to: int) -> int:
    """Return the option nearest to a wanted number of units; of two equally near, the larger."""
    return min(unit_options(group, round_to), key=lambda count: (abs(count - wanted), -count))


def units_to_keep(group: ChannelGroup, width: float, round_to: int) -> int:
    """Return the option nearest to `width` times the group's units."""
    return nearest_option(group, width * group.num_units, round_to)


def width_levels(groups: Sequence[ChannelGroup], round_to: int, min_width: float) -> tuple[float, ...]:
    """Return target keep ratios, falling from 1, whose rounded channel counts all differ; at most 24, evenly thinned."""
    ratios = {count / g.num_units for g in groups for count in unit_options(g, round_to)}
    by_counts: dict[tuple[int, ...], float] = {}
    for width in sorted({w for w in ratios if w >= min_width - 1e-9} | {1.0}):
        by_counts[tuple(units_to_keep(g, width, round_to) for g in groups)] = width
    levels = sorted(by_counts.values(), reverse=True)
    if len(levels) > MAX_LEVELS:
        levels = [levels[round(i * (len(levels) - 1) / (MAX_LEVELS - 1))] for i in range(MAX_LEVELS)]
    return tuple(levels)
