"""What can be cut in a model, as plain data: axes, blocks, channel groups, sides and costs; needs no images and no training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triaxis.data.images import Preprocess
from triaxis.deliver.bundle import export
from triaxis.errors import UnsupportedModelError
from triaxis.metrics.macs import count_macs, count_params
from triaxis.models.weights import load_model
from triaxis.models.zoos import ModelSource
from triaxis.process.usual_torch import usual_torch
from triaxis.surgery.find.control import listed
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import AXES, KeepRatios, PrunePlan

DEFAULT_SIDE_PX = 32
"""Side of a model whose makers say nothing of it: the CIFAR families and users' own."""


@usual_torch()
def inspect_model(
    name: str,
    *,
    args: dict[str, Any] | None = None,
    side_px: int | None = None,
    in_channels: int = 3,
    num_classes: int = 10,
    weights: str | None = None,
    keep: KeepRatios | None = None,
    protect: Sequence[str] | str = (),
    prune_only: Sequence[str] | str = (),
    example_input: str | None = None,
    save: str | Path | None = None,
) -> dict[str, Any]:
    """Examine a model by name.

    Args:
        name: Such as ``timm:resnet18``; see `load_model`.
        args: Keyword arguments of the model's function.
        side_px: Side of the input; None takes the model's own.
        in_channels: Channels of the pictures.
        num_classes: Outputs of the classifier.
        weights: None for untrained weights, ``pretrained`` or a file.
        keep: Also plan and count this cut.
        protect: Modules of which nothing is cut; see `Surgeon.examine`.
        prune_only: Modules that alone may be cut.
        example_input: For a model that takes more than pictures, ``package.module:function``; see `Surgeon.examine`.
        save: Write the cut model, or the uncut one if `keep` is None, there as a run's ``compressed`` would hold it.

    Returns:
        Plain data: see `describe`, and ``cut`` with what `keep` asked for, what it achieved, its plan and its cost.

    Raises:
        ConfigError: There is no such model or file, or a name in `protect` or `prune_only` matches no module.
        UnsupportedModelError: The model cannot be examined, or `keep` cuts an axis that is closed.
    """
    protect, prune_only = listed("protect", protect), listed("prune_only", prune_only)
    loaded = load_model(name, args or {}, num_classes, weights)
    side = side_px or loaded.side_px or DEFAULT_SIDE_PX
    held: dict[str, Any] = {"protect": protect, "prune_only": prune_only, "example_input": example_input}
    surgeon = Surgeon.examine(loaded.model, side_px=side, in_channels=in_channels, **held)
    found = {"model": name, "num_classes": num_classes, **describe(surgeon)}
    plan = plan_for(surgeon, keep or KeepRatios())
    if keep is not None:
        achieved = dict(zip(AXES, plan.achieved.as_tuple(), strict=True))
        found["cut"] = {
            "target": dict(zip(AXES, keep.as_tuple(), strict=True)),
            "achieved": achieved,
            "plan": str(plan).splitlines(),
            "cost_before": found["cost"],
            "cost": cost_of(surgeon, plan),
        }
    if save is not None:
        source = ModelSource(name=name, args=args or {}, num_classes=num_classes, side_px=side, in_channels=in_channels, **held)
        files = export(Path(save), surgeon.cut(plan), plan, source, loaded.preprocess or Preprocess(), ("safetensors",))
        found["saved"] = [str(file) for file in files]
    return found


def describe(surgeon: Surgeon) -> dict[str, Any]:
    """Return the axes, blocks, channel groups, sides and costs of an examined model as plain data."""
    anatomy, smallest = surgeon.anatomy, smallest_plan(surgeon)
    ends = dict(zip(AXES, smallest.achieved.as_tuple(), strict=True))
    return {
        "side_px": anatomy.base_side_px,
        "axes": {axis: anatomy.closed.get(axis) or f"open, down to {ends[axis]:.2f}" for axis in AXES},
        "cost": cost_of(surgeon, surgeon.identity()),
        "smallest_cut": {"achieved": ends, "cost": cost_of(surgeon, smallest)},
        "blocks": [{"name": b.name, "kind": b.kind, "stage": b.stage, "removable": b.is_removable, "why": b.why} for b in anatomy.blocks],
        "channel_groups": [{"name": group.name, "channels": group.num_channels} for group in anatomy.groups],
        "whole_layers": dict(anatomy.whole),
        "sides_px": list(anatomy.sides_px),
    }


def cost_of(surgeon: Surgeon, plan: PrunePlan) -> dict[str, int]:
    """Return MACs and params of a plan's real cut."""
    cut = surgeon.cut(plan)
    shape = (surgeon.anatomy.in_channels, plan.side_px, plan.side_px)
    return {"macs": count_macs(cut, shape), "params": count_params(cut)}


def plan_for(surgeon: Surgeon, keep: KeepRatios) -> PrunePlan:
    """Return the plan nearest to keep ratios, chosen without images.

    A run removes the blocks that matter least, by measuring; here the fullest stage gives its last block first.

    Raises:
        UnsupportedModelError: A ratio below 1 is asked for on an axis that is closed.
    """
    for axis in AXES:
        if getattr(keep, axis) < 1 and axis in surgeon.anatomy.closed:
            raise UnsupportedModelError(f"The {axis} of this model cannot be cut: {surgeon.anatomy.closed[axis]} Leave {axis} out.")
    num_blocks = surgeon.identity().num_blocks
    side = min(surgeon.sides_px(), key=lambda px: abs(px - keep.resolution * surgeon.anatomy.base_side_px))
    removed = removal_order(surgeon)[: num_blocks - max(1, round(keep.depth * num_blocks))]
    return surgeon.plan(removed_blocks=removed, width=keep.width, side_px=side)


def smallest_plan(surgeon: Surgeon) -> PrunePlan:
    """Return the plan at the end of every axis."""
    return surgeon.plan(removed_blocks=removal_order(surgeon), width=surgeon.width_levels()[-1], side_px=surgeon.sides_px()[-1])


def removal_order(surgeon: Surgeon) -> tuple[str, ...]:
    """Return all blocks that can go, in an order that needs no images: from the fullest stage, its last block first."""
    stages = {block.name: block.stage for block in surgeon.anatomy.blocks}
    left = list(stages)
    removed: tuple[str, ...] = ()
    while candidates := surgeon.removable(surgeon.plan(removed_blocks=removed)):
        sizes = {name: sum(stages[other] == stages[name] for other in left) for name in candidates}
        chosen = max(candidates, key=lambda name: (sizes[name], left.index(name)))
        left.remove(chosen)
        removed = (*removed, chosen)
    return removed
