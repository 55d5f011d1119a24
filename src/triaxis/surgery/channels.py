"""Channel groups: which positions of which tensors go together, read off a trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triaxis.surgery.atoms import Atoms
from triaxis.surgery.tracing import ChannelTracer

Place = tuple[str, int]


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
    layers = _layer_outputs(model)
    atoms = atoms or tracer.atoms
    places = _places_of_classes(tracer, atoms)
    pinned = atoms.pinned()
    by_signature: dict[frozenset[Place], list[int]] = defaultdict(list)
    closed: dict[str, str] = {}
    for root, held in places.items():
        signature = frozenset(place for place, _ in held)
        owner = min((place for place in signature if place in layers), key=lambda place: layers[place], default=None)
        if owner is None:
            continue
        if root in pinned:
            closed.setdefault(owner[0].rpartition(".")[0], pinned[root])
        else:
            by_signature[signature].append(root)
    groups = []
    for signature, roots in by_signature.items():
        owner = min((place for place in signature if place in layers), key=lambda place: layers[place])
        groups.append((layers[owner], _group(owner, roots, places)))
    groups.sort(key=lambda item: item[0])
    return _uniquely_named([g for _, g in groups if g.num_units > 1]), closed


def _layer_outputs(model: nn.Module) -> dict[Place, int]:
    """Return {(weight name, output dimension): order} of all convolution and linear layers."""
    found: dict[Place, int] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            dim = 1 if getattr(module, "transposed", False) else 0
            found[(f"{path}.weight" if path else "weight", dim)] = len(found)
    return found


def _places_of_classes(tracer: ChannelTracer, atoms: Atoms) -> dict[int, list[tuple[Place, int]]]:
    places: dict[int, list[tuple[Place, int]]] = defaultdict(list)
    for place, labels in tracer.labelled.items():
        for position, root in enumerate(atoms.find(labels).tolist()):
            places[root].append((place, position))
    return places


def _group(owner: Place, roots: list[int], places: Mapping[int, list[tuple[Place, int]]]) -> ChannelGroup:
    """Order the units by the owner's first channel and turn classes into members."""
    first = {root: min(position for place, position in places[root] if place == owner) for root in roots}
    roots = sorted(roots, key=first.__getitem__)
    held: dict[Place, list[tuple[int, int]]] = defaultdict(list)
    for unit, root in enumerate(roots):
        for place, position in places[root]:
            held[place].append((position, unit))
    members = []
    for place, pairs in held.items():
        positions, units = torch.tensor(sorted(pairs)).T
        members.append(Member(*place, positions, units))
    unit_of = next(m.units for m in members if (m.tensor, m.dim) == owner)
    return ChannelGroup(owner[0].rpartition(".")[0], unit_of, tuple(members), torch.tensor(roots))


def _uniquely_named(groups: list[ChannelGroup]) -> list[ChannelGroup]:
    """Number the groups that share a layer: ``conv1``, ``conv1#2``, ..."""
    seen: dict[str, int] = defaultdict(int)
    named = []
    for group in groups:
        seen[group.name] += 1
        name = group.name if seen[group.name] == 1 else f"{group.name}#{seen[group.name]}"
        named.append(ChannelGroup(name, group.unit_of, group.members, group.roots))
    return named
