"""What is left to cut once some blocks are gone, and which positions a plan removes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triaxis.errors import PlanError
from triaxis.surgery.find.blocks import Block
from triaxis.surgery.find.channels import ChannelGroup, Place, find_groups
from triaxis.surgery.trace.atoms import Atoms
from triaxis.surgery.trace.tracing import ChannelTracer
from triaxis.values import ChannelCut, PrunePlan


@dataclass(frozen=True)
class Layout:
    """The channel groups that are left, and the labels and positions that vanish with removed dense blocks."""

    groups: tuple[ChannelGroup, ...]
    vanished: tuple[ChannelGroup, ...]
    atoms: Atoms

    @property
    def num_channels(self) -> int:
        """Channels of all groups."""
        return sum(group.num_channels for group in self.groups)


def lay_out(base: nn.Module, tracer: ChannelTracer, groups: list[ChannelGroup], removed: list[Block]) -> Layout:
    """Return what is left of the base model's groups without these blocks; members inside them are dropped."""
    atoms = _joined(tracer, [b for b in removed if b.kind == "sequence"])
    if atoms is not tracer.atoms:
        groups = find_groups(base, tracer, atoms)[0]
    gone = tuple(f"{path}." for block in removed for path in block.modules)
    made = {name for block in removed for name in block.made}
    left: list[ChannelGroup] = []
    vanished: list[ChannelGroup] = []
    for group in groups:
        members = tuple(m for m in group.members if not gone or not m.tensor.startswith(gone))
        if members:
            (vanished if group.name in made else left).append(ChannelGroup(group.name, group.unit_of, members, group.roots))
    return Layout(tuple(left), tuple(vanished), atoms)


def _joined(tracer: ChannelTracer, runs: list[Block]) -> Atoms:
    """Where a run of a sequence went, what it read and what it made become the same channels."""
    if not runs:
        return tracer.atoms
    atoms = copy.deepcopy(tracer.atoms)
    for block in runs:
        read, made = block.calls[0].in_labels, block.calls[-1].out_labels
        if read is not None and made is not None and read.shape == made.shape:
            atoms.unify(read, made)
        else:
            for labels in (part for part in (read, made) if part is not None):
                atoms.pin(labels, f"{block.name}: the block is removed and its other side cannot be cut")
    return atoms


@dataclass(frozen=True)
class Loss:
    """What a plan removes: positions by tensor and dimension, and the classes of labels that go."""

    positions: dict[Place, Tensor]
    classes: Tensor

    def survivors(self, atoms: Atoms, labels: Tensor) -> int:
        """Return how many of these labels stay."""
        return int((~torch.isin(atoms.find(labels), self.classes)).sum())

    def length(self, atoms: Atoms, plane: Tensor, dim: int) -> int:
        """Return the length that is left along a dimension of a label plane."""
        stays = ~torch.isin(atoms.find(plane), self.classes)
        return int(stays.movedim(dim, 0).reshape(plane.shape[dim], -1).any(1).sum())


def loss_of(plan: PrunePlan, layout: Layout) -> Loss:
    """Return what a plan removes.

    Raises:
        PlanError: The plan names a channel group that the model does not have, or splits a unit.
    """
    groups = {g.name: g for g in layout.groups}
    lost: list[tuple[ChannelGroup, Tensor]] = [(g, torch.arange(g.num_units)) for g in layout.vanished]
    for cut in plan.channels:
        group = groups.get(cut.group)
        if group is None or group.num_channels != cut.num_channels:
            raise PlanError(
                f"The plan's channel group {cut.group} with {cut.num_channels} channels must exist in the model, but it does not; "
                "make the plan with this model's surgeon."
            )
        lost.append((group, _lost_units(group, cut)))
    return Loss(_positions(lost), torch.cat([g.roots[units] for g, units in lost]) if lost else torch.zeros(0, dtype=torch.long))


def _positions(lost: Iterable[tuple[ChannelGroup, Tensor]]) -> dict[Place, Tensor]:
    collected: dict[Place, list[Tensor]] = {}
    for group, units in lost:
        is_lost = torch.zeros(group.num_units, dtype=torch.bool)
        is_lost[units] = True
        for m in group.members:
            collected.setdefault((m.tensor, m.dim), []).append(m.positions[is_lost[m.units]])
    return {place: torch.cat(parts) for place, parts in collected.items()}


def _lost_units(group: ChannelGroup, cut: ChannelCut) -> Tensor:
    stays = torch.zeros(group.num_channels, dtype=torch.bool)
    stays[list(cut.kept)] = True
    lost = group.unit_of[~stays].unique()
    if bool(torch.isin(group.unit_of[stays], lost).any()):
        raise PlanError(
            f"Channel group {group.name} must be cut in whole units of {group.channels_per_unit} channels, but the plan splits one; "
            "make the plan with this model's surgeon."
        )
    return lost
