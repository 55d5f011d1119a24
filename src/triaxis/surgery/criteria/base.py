"""What a criterion is: it scores the units of a channel group by weights, statistics or gradients; larger = keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from triaxis.errors import ConfigError
from triaxis.surgery.find.channels import ChannelGroup, Member


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at. All tensors are named and shaped as in the base model.

    `state` holds weights, biases and running statistics; `gradients` those of the loss, averaged over images, 0 where a
    channel has gone already, and empty for a criterion that does not need them; `seed` is the run's.
    """

    state: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0


@runtime_checkable
class Criterion(Protocol):
    """Scores channels.

    The contract, which `triaxis.testing.CriterionContract` checks:

    * One number for each unit of the group, finite; the larger, the better a reason to keep the unit.
    * The same evidence and seed give the same scores, in any process: a run that was stopped goes on with the same cuts.
    * Scores of different groups are compared relative to their group's mean, where ``width.scope`` is global.
    * Nothing is changed: neither the evidence nor the group.
    * The class can be called without arguments.
    """

    needs_gradients: bool
    """Whether the evidence must hold gradients, which takes a backward pass over some images for each cut."""

    def scores(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Return the scores of the units of one group, shape (units,)."""


def unit_scores(group: ChannelGroup, criterion: Criterion, evidence: Evidence) -> Tensor:
    """Return the checked scores of one group, shape (units,), float32 on the CPU. Every cut is ranked by this.

    Raises:
        ConfigError: The scores are not one finite number for each unit, or gradients are needed and not given.
    """
    name = type(criterion).__name__
    if criterion.needs_gradients and not evidence.gradients:
        raise ConfigError(f"The criterion {name} must be given gradients, got none: pass gradients to Surgeon.plan.")
    found = criterion.scores(group, evidence)
    if not isinstance(found, Tensor) or found.shape != (group.num_units,):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"The criterion {name} must return a tensor of shape ({group.num_units},) for {group.name}, got {got}.")
    if not bool(torch.isfinite(found).all()):
        raise ConfigError(f"The criterion {name} must return finite scores, got NaN or infinity for {group.name}.")
    return found.detach().float().cpu()


def unit_sums(group: ChannelGroup, member: Member, values: Tensor) -> Tensor:
    """Return for each unit the sum of its slices of `values`, a tensor in the shape of the member's; shape (units,)."""
    rows = values.detach().float().cpu().index_select(member.dim, member.positions)
    sums = rows.transpose(0, member.dim).reshape(len(member.positions), -1).sum(1)
    return torch.zeros(group.num_units).index_add_(0, member.units, sums)


def unit_norms(group: ChannelGroup, member: Member, values: Tensor, power: int) -> Tensor:
    """Return the p-norm of each unit's slices of `values`, divided by the mean over units so that tensors count equally."""
    norms = unit_sums(group, member, values.detach().float().cpu().abs().pow(power)).pow(1 / power)
    return norms / norms.mean().clamp_min(1e-12)


def weights_of(group: ChannelGroup, evidence: Evidence) -> list[Member]:
    """Return the members of a group that are weights of convolution and linear layers, not vectors."""
    return [member for member in group.members if evidence.state[member.tensor].ndim > 1]


def mean_over_members(group: ChannelGroup, parts: Sequence[Tensor]) -> Tensor:
    """Return the mean of scores of several members, or equal scores where there is none; shape (units,)."""
    return torch.stack(list(parts)).mean(0) if parts else torch.ones(group.num_units)
