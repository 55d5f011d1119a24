"""Channel groups: which positions of which tensors go together, read off a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from triaxis.surgery.trace.atoms import Atoms
from triaxis.surgery.trace.tracing import ChannelTracer

Place = tuple[str, int]

PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""Weights of `nn.MultiheadAttention` that make channels."""


@dataclass(frozen=True)
class Member:
    """Positions along one dimension of one named tensor, and the unit that each belongs to."""

    tensor: str
    dim: int
    positions: Tensor
    units: Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that go together. A *unit* is the least that can be removed: one channel, or several that are coupled.

    `name` is the path of the layer that makes the channels, `unit_of` the unit of each of that layer's channels.
    """

    name: str
    unit_of: Tensor
    members: tuple[Member, ...]
    roots: Tensor

    @property
    def num_channels(self) -> int:
        """Channels in the base model."""
        return len(self.unit_of)

    @property
    def num_units(self) -> int:
        """How many separate choices the group holds."""
        return len(self.roots)

    @property
    def channels_per_unit(self) -> int:
        """Channels that one unit holds on average, at least 1."""
        return max(1, round(self.num_channels / self.num_units))


def find_groups(model: nn.Module, tracer: ChannelTracer, atoms: Atoms | None = None) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Return the channel groups, in the order of the model's layers, and for each layer that stays whole the reason.

    Classes of labels that live in the same places form one group; one of those places is the output of a layer.
    """
    atoms = atoms or tracer.atoms
    layers = _layer_outputs(model)
    roots = {place: atoms.find(labels).numpy() for place, labels in tracer.labelled.items()}
    owners = sorted((place for place in roots if place in layers), key=layers.__getitem__)
    pinned = atoms.pinned()
    signatures = _signatures(roots, len(atoms))
    groups: list[ChannelGroup] = []
    closed: dict[str, str] = {}
    done = np.zeros(len(atoms), dtype=bool)
    group_of = np.full(len(atoms), -1)
    found: list[tuple[Place, np.ndarray]] = []
    is_pinned = np.zeros(len(atoms), dtype=bool)
    is_pinned[list(pinned)] = True
    for owner in owners:
        _, first = np.unique(roots[owner], return_index=True)
        classes = roots[owner][np.sort(first)]
        stuck = classes[is_pinned[classes]]
        if len(stuck) and owner[0].endswith(("weight", *PROJECTIONS)):
            closed.setdefault(owner[0].rpartition(".")[0], pinned[int(stuck[0])])
        classes = classes[~done[classes] & ~is_pinned[classes]]
        done[classes] = True
        for signature in dict.fromkeys(signatures[classes].tolist()):
            alike = classes[signatures[classes] == signature]
            if len(alike) > 1:
                group_of[alike] = len(found)
                found.append((owner, alike))
    members = _members(roots, group_of, found)
    for (owner, alike), parts in zip(found, members, strict=True):
        own = next(m for m in parts if (m.tensor, m.dim) == owner)
        groups.append(ChannelGroup(_name(owner, int(own.positions[0])), own.units, tuple(parts), torch.from_numpy(alike)))
    return groups, closed


def _name(owner: Place, first: int) -> str:
    """Name a group after its layer, and its first channel there if that is not 0: ``conv1``, ``conv1#12``."""
    layer, _, tensor = owner[0].rpartition(".")
    layer = layer if tensor in ("weight", PROJECTIONS[0]) else owner[0]
    return f"{layer}#{first}" if first else layer


def _layer_outputs(model: nn.Module) -> dict[Place, int]:
    """Return {(weight name, output dimension): order} of all convolution, linear and attention layers, then of plain matrices."""
    found: dict[Place, int] = {}
    matrices: list[Place] = []
    for path, module in model.named_modules():
        dot = f"{path}." if path else ""
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            dim = 1 if getattr(module, "transposed", False) else 0
            found[(f"{dot}weight", dim)] = len(found)
        elif isinstance(module, nn.MultiheadAttention):
            for name in PROJECTIONS:
                found[(f"{dot}{name}", 0)] = len(found)
        else:
            matrices += [(f"{dot}{n}", d) for n, p in module.named_parameters(recurse=False) if p.ndim == 2 for d in (1, 0)]
    return {**found, **{place: len(found) + i for i, place in enumerate(matrices)}}


def _signatures(roots: Mapping[Place, np.ndarray], num_labels: int) -> np.ndarray:
    """Return for each class a number that says in which places it lives, and how often: a sum of random keys."""
    keys = np.random.default_rng(0).integers(1, 2**62, len(roots), dtype=np.int64)
    signatures = np.zeros(num_labels, dtype=np.int64)
    for key, labels in zip(keys, roots.values(), strict=True):
        np.add.at(signatures, labels, key)
    return signatures


def _members(roots: Mapping[Place, np.ndarray], group_of: np.ndarray, found: list[tuple[Place, np.ndarray]]) -> list[list[Member]]:
    """Return for each group its positions in every place, with units numbered in the order of the owner's channels."""
    unit_of = np.zeros(len(group_of), dtype=np.int64)
    for _, classes in found:
        unit_of[classes] = np.arange(len(classes))
    members: list[list[Member]] = [[] for _ in found]
    for (tensor, dim), labels in roots.items():
        here = group_of[labels]
        for group in np.unique(here[here >= 0]):
            positions = np.flatnonzero(here == group)
            members[group].append(Member(tensor, dim, torch.from_numpy(positions), torch.from_numpy(unit_of[labels[positions]])))
    return members
