"""Which units of each channel group stay, given a target keep ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from triaxis.errors import PlanError
from triaxis.surgery.find.channels import ChannelGroup
from triaxis.surgery.find.layout import Layout, Loss
from triaxis.surgery.find.ratios import nearest_option, units_to_keep
from triaxis.values import ChannelCut

Scope = Literal["uniform", "global"]


def channel_cuts(
    layout: Layout, width: float, ranked: Mapping[str, Tensor], lost: Loss | None, round_to: int, scope: Scope
) -> tuple[ChannelCut, ...]:
    """Choose the channels that stay in each group.

    Args:
        layout: The groups.
        width: Target keep ratio in (0, 1].
        ranked: By group name, shape (units,), larger = keep; may be empty at width 1.
        lost: What a parent plan has removed already; that stays removed.
        round_to: See `triaxis.surgery.find.ratios`.
        scope: ``uniform``: the same ratio in every group; ``global``: all channels compete.

    Returns:
        One cut for each group that loses channels.
    """
    counts = global_counts(layout, ranked, width, round_to) if scope == "global" and ranked else {}
    cuts = []
    for group in layout.groups:
        units = _left_by(lost, group)
        count = counts.get(group.name, units_to_keep(group, width, round_to))
        if count < len(units):
            best = ranked[group.name][units].argsort(descending=True, stable=True)[:count]
            units = units[best].sort().values
        if len(units) < group.num_units:
            kept = torch.isin(group.unit_of, units).nonzero().reshape(-1)
            cuts.append(ChannelCut(group=group.name, num_channels=group.num_channels, kept=tuple(kept.tolist())))
    return tuple(cuts)


def _left_by(lost: Loss | None, group: ChannelGroup) -> Tensor:
    """Return the units of which a parent plan removed no position."""
    units = torch.arange(group.num_units)
    places = {} if lost is None else lost.positions
    gone = [m.units[torch.isin(m.positions, places[m.tensor, m.dim])] for m in group.members if (m.tensor, m.dim) in places]
    left = units[~torch.isin(units, torch.cat(gone))] if gone else units
    if not len(left):
        raise PlanError(
            f"Channel group {group.name} must keep a channel, but the parent plan leaves none that both sides of the removed block share; "
            "remove such blocks before channels."
        )
    return left


def global_counts(layout: Layout, ranked: Mapping[str, Tensor], width: float, round_to: int) -> dict[str, int]:
    """Return how many units each group keeps when all channels compete; scores are relative to their group's mean."""
    relative = {name: scores / scores.abs().mean().clamp_min(1e-12) for name, scores in ranked.items()}
    sizes = torch.cat([torch.full((g.num_units,), float(g.channels_per_unit)) for g in layout.groups])
    pooled = torch.cat([relative[g.name] for g in layout.groups])
    order = pooled.argsort(descending=True, stable=True)
    num_within = int((sizes[order].cumsum(0) <= width * float(sizes.sum()) + 1e-6).sum())
    threshold = pooled[order[max(0, num_within - 1)]]
    return {g.name: nearest_option(g, float((relative[g.name] >= threshold).sum()), round_to) for g in layout.groups}
