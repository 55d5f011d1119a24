"""How much a channel matters: one score for each unit of a channel group, larger = keep."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from triaxis.errors import ConfigError
from triaxis.surgery.channels import ChannelGroup

CRITERIA = ("l2", "l1", "bn", "taylor", "random", "first")


def unit_scores(group: ChannelGroup, state: Mapping[str, Tensor], criterion: str, scores: Mapping[str, Tensor] | None = None) -> Tensor:
    """Score the units of one group.

    Args:
        group: The channel group.
        state: Base-shaped tensors by name.
        criterion: ``l2`` or ``l1`` (norm of all weights of the group), ``bn`` (normalisation scales; ``l2`` where there are
            none), ``taylor`` (given by the caller in `scores`), ``random`` (seeded by the group's name) or ``first``.
        scores: By group name, one number per channel of the base model.

    Returns:
        Shape (units of the group,).

    Raises:
        ConfigError: The criterion is unknown, or ``taylor`` without scores for this group.
    """
    if criterion not in CRITERIA:
        raise ConfigError(f"importance must be one of {', '.join(CRITERIA)}, got {criterion!r}.")
    if scores is not None and group.name in scores:
        return _gathered(scores[group.name].detach().float().cpu(), group)
    if criterion == "taylor":
        raise ConfigError(f"Taylor importance must come with scores for every channel group, got none for {group.name}.")
    if criterion == "first":
        return -torch.arange(group.num_units, dtype=torch.float32)
    if criterion == "random":
        generator = torch.Generator().manual_seed(zlib.crc32(group.name.encode()))
        return torch.rand(group.num_units, generator=generator)
    if criterion == "bn":
        scales = [_magnitude(group, i, state, 1) for i in _scales(group, state)]
        if scales:
            return torch.stack(scales).mean(0)
    power = 1 if criterion == "l1" else 2
    parts = [_magnitude(group, i, state, power) for i, m in enumerate(group.members) if state[m.tensor].ndim > 1]
    return torch.stack(parts).mean(0) if parts else torch.ones(group.num_units)


def _gathered(channel_scores: Tensor, group: ChannelGroup) -> Tensor:
    if channel_scores.shape != (group.num_channels,):
        raise ConfigError(f"Scores of {group.name} must have shape ({group.num_channels},), got {tuple(channel_scores.shape)}.")
    return torch.zeros(group.num_units).index_add_(0, group.unit_of, channel_scores)


def _scales(group: ChannelGroup, state: Mapping[str, Tensor]) -> list[int]:
    """Return the members that are scales of normalisation layers: vectors with a running mean or a bias beside them."""
    return [
        i
        for i, m in enumerate(group.members)
        if m.tensor.endswith(".weight") and state[m.tensor].ndim == 1 and m.tensor[: -len("weight")] + "bias" in state
    ]


def _magnitude(group: ChannelGroup, index: int, state: Mapping[str, Tensor], power: int) -> Tensor:
    """Return the p-norm of each unit's slice of one tensor, divided by the mean over units so that tensors count equally."""
    member = group.members[index]
    rows = state[member.tensor].detach().float().cpu().index_select(member.dim, member.positions).abs().pow(power)
    sums = rows.transpose(0, member.dim).reshape(len(member.positions), -1).sum(1)
    norms = torch.zeros(group.num_units).index_add_(0, member.units, sums).pow(1 / power)
    return norms / norms.mean().clamp_min(1e-12)
