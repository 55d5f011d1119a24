"""What is cut: keep ratios, the plan in integers, and what a model offers to cut."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from triaxis.values.base import AXES, Axis, Value, require


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRatios(Value):
    """Kept / original on each axis, in (0, 1]; 1 is untouched."""

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0

    def __post_init__(self) -> None:
        for axis in AXES:
            ratio = getattr(self, axis)
            require(0 < ratio <= 1, f"The {axis} keep ratio must be in (0, 1], got {ratio!r}.")

    def as_tuple(self) -> tuple[float, float, float]:
        """Return (depth, width, resolution)."""
        return (self.depth, self.width, self.resolution)

    def replace(self, **ratios: float) -> KeepRatios:
        """Return a copy with some axes changed."""
        return dataclasses.replace(self, **ratios)

    def __str__(self) -> str:
        return f"d={self.depth:.3f} w={self.width:.3f} r={self.resolution:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCut(Value):
    """The channels that stay in one channel group, in the base model's numbering."""

    group: str
    num_channels: int
    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        ordered = all(a < b for a, b in zip(self.kept, self.kept[1:], strict=False))
        require(
            bool(self.kept) and ordered and self.kept[0] >= 0 and self.kept[-1] < self.num_channels,
            f"Channel group {self.group} must keep between 1 and {self.num_channels} of its channels, in order, got {self.kept}.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan(Value):
    """What to cut, as integers: blocks removed, channels kept per group, side in pixels.

    All names and numbers are the base model's, so that a plan can be applied to the base model in one go, and two
    plans of one chain can be compared. Groups that are not listed are untouched.
    """

    num_blocks: int
    removed_blocks: tuple[str, ...] = ()
    channels: tuple[ChannelCut, ...] = ()
    num_channels: int
    base_side_px: int
    side_px: int

    def __post_init__(self) -> None:
        require(
            0 <= len(self.removed_blocks) < max(self.num_blocks, 1),
            f"A plan must keep at least one of {self.num_blocks} blocks, got {len(self.removed_blocks)} removed.",
        )
        require(
            0 < self.side_px <= self.base_side_px,
            f"A plan's side must be in 1..{self.base_side_px} px, got {self.side_px}.",
        )
        in_groups = sum(cut.num_channels for cut in self.channels)
        require(
            self.num_blocks >= 1 and self.num_channels >= max(in_groups, 1),
            f"A plan must count all blocks and channels of the base model, {max(in_groups, 1)} channels or more, "
            f"got {self.num_blocks} blocks and {self.num_channels} channels.",
        )
        for names in (self.removed_blocks, [cut.group for cut in self.channels]):
            require(len(set(names)) == len(names), "A plan must name each block and each channel group once.")

    @property
    def achieved(self) -> KeepRatios:
        """The keep ratios that the integers give."""
        dropped = sum(cut.num_channels - len(cut.kept) for cut in self.channels)
        return KeepRatios(
            depth=(self.num_blocks - len(self.removed_blocks)) / max(self.num_blocks, 1),
            width=(self.num_channels - dropped) / max(self.num_channels, 1),
            resolution=self.side_px / self.base_side_px,
        )

    @property
    def is_identity(self) -> bool:
        """Whether nothing is cut."""
        return not self.removed_blocks and self.side_px == self.base_side_px and all(len(c.kept) == c.num_channels for c in self.channels)

    def __str__(self) -> str:
        lines = [
            f"side {self.base_side_px} -> {self.side_px} px",
            f"blocks {self.num_blocks} -> {self.num_blocks - len(self.removed_blocks)}",
        ]
        lines += [f"  - {name}" for name in self.removed_blocks]
        lines += [f"  {c.group}: {c.num_channels} -> {len(c.kept)} channels" for c in self.channels]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo(Value):
    """One block that depth pruning counts.

    `kind` says why it can go: a residual block's branch adds to its input, a dense block's output is concatenated to
    what came before, and a block of a sequence keeps its input's shape. `stage` names the blocks that share a shape; one
    of them always stays. `modules` are the paths that go with the block, `why` the reason for which it cannot go.
    """

    name: str
    kind: Literal["residual", "sequence", "dense"]
    stage: str
    is_removable: bool
    modules: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo(Value):
    """One channel group: its name (the layer that makes the channels), its channels, and how many separate choices they hold."""

    name: str
    num_channels: int
    num_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy(Value):
    """What can be cut in one model.

    `sides_px` falls from the base model's side. ``closed[axis]`` says, in a sentence with the module's path, why an axis
    offers no choice; ``whole[layer]`` why that layer's channels all stay.
    """

    base_side_px: int
    in_channels: int
    blocks: tuple[BlockInfo, ...]
    groups: tuple[GroupInfo, ...]
    sides_px: tuple[int, ...]
    closed: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)

    @property
    def open_axes(self) -> tuple[Axis, ...]:
        """The axes that offer a choice."""
        return tuple(axis for axis in AXES if axis not in self.closed)
