"""Records -> the network as a diagram: its blocks stage by stage, and how many channels of each group stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from triaxis.report.records import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """One channel group: how many channels it had and has, and its base channels over those of the widest group, in (0, 1]."""

    name: str
    before: int
    after: int
    breadth: float

    @property
    def says(self) -> str:
        """The group in words."""
        stays = f"{self.after} of {self.before}" if self.after < self.before else f"all {self.before}"
        return f"{self.name}: {stays} channels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block with the channel groups that are made in it; `short` is what its name adds to its stage's."""

    name: str
    short: str
    is_kept: bool
    groups: tuple[Channels, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks that share a shape."""

    name: str
    blocks: tuple[Block, ...]

    @property
    def num_kept(self) -> int:
        """Blocks that stay."""
        return sum(block.is_kept for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network before and after the cut; `outside` are the channel groups that are made in no block."""

    base_side_px: int
    side_px: int
    outside: tuple[Channels, ...]
    stages: tuple[Stage, ...]


def network(records: Records) -> Network | None:
    """Return what the plan leaves of the network, in the order in which an image passes through; None without a plan."""
    plan, anatomy = records.plan, records.anatomy or {}
    if plan is None:
        return None
    kept = {cut.group: len(cut.kept) for cut in plan.channels}
    sizes = {g["name"]: g["num_channels"] for g in anatomy.get("groups", ())} | {cut.group: cut.num_channels for cut in plan.channels}
    widest = max(sizes.values(), default=1)
    groups = [Channels(name=name, before=size, after=kept.get(name, size), breadth=size / widest) for name, size in sizes.items()]
    blocks = anatomy.get("blocks") or [{"name": name, "stage": ""} for name in plan.removed_blocks]
    inside = {block["name"]: tuple(_made_in(block, groups)) for block in blocks}
    taken = {group.name for found in inside.values() for group in found}
    stages = [
        _stage(number, list(found), set(plan.removed_blocks), inside)
        for number, (_, found) in enumerate(groupby(blocks, key=lambda block: block["stage"]), 1)
    ]
    outside = tuple(group for group in groups if group.name not in taken)
    return Network(base_side_px=plan.base_side_px, side_px=plan.side_px, outside=outside, stages=tuple(stages))


def _made_in(block: dict[str, Any], groups: Iterable[Channels]) -> Iterable[Channels]:
    paths = [f"{path}." for path in (block["name"], *block.get("modules", ()))]
    return (group for group in groups if f"{group.name}.".startswith(tuple(paths)))


def _stage(number: int, blocks: Sequence[dict[str, Any]], removed: set[str], inside: dict[str, tuple[Channels, ...]]) -> Stage:
    names = [block["name"] for block in blocks]
    shown = tuple(Block(name=name, short=_short(name), is_kept=name not in removed, groups=inside[name]) for name in names)
    return Stage(name=f"stage {number}", blocks=shown)


def _short(name: str) -> str:
    """Return the end of a block's path, such as ``2.0`` of ``features.stages.2.0``."""
    parts = name.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() and len(parts) > 1 else parts[-1]
