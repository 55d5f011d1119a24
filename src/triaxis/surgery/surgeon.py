"""The surgeon: examines a model once, then plans and applies cuts along depth, width and resolution."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from triaxis.errors import PlanError, UnsupportedModelError
from triaxis.surgery.apply import Nothing, Skip, complement, cut_tensor, fit_attributes, rebuilt, scattered, tensors_of, zeroed
from triaxis.surgery.blocks import Block, find_blocks, inside, stages
from triaxis.surgery.channels import ChannelGroup, Member, Place, find_groups
from triaxis.surgery.importance import unit_scores
from triaxis.surgery.ratios import unit_options, units_to_keep, width_levels
from triaxis.surgery.sides import accepted_sides, candidate_sides
from triaxis.surgery.tracing import ChannelTracer, trace
from triaxis.values import Anatomy, BlockInfo, ChannelCut, GroupInfo, PrunePlan

Scope = Literal["uniform", "global"]


@dataclass(frozen=True)
class Layout:
    """What is left to cut once some blocks are gone: the channel groups, and the positions that vanish with dense blocks."""

    groups: tuple[ChannelGroup, ...]
    vanished: dict[Place, Tensor]

    @property
    def num_channels(self) -> int:
        """Channels of all groups."""
        return sum(group.num_channels for group in self.groups)


@dataclass
class Surgeon:
    """Plans and applies cuts of one model. Make it with `Surgeon.examine`."""

    base: nn.Module
    anatomy: Anatomy
    blocks: tuple[Block, ...]
    tracer: ChannelTracer
    round_to: int
    min_width: float
    _layouts: dict[frozenset[str], Layout] = field(default_factory=dict)

    @classmethod
    def examine(
        cls,
        model: nn.Module,
        *,
        side_px: int,
        in_channels: int = 3,
        round_to: int = 8,
        min_width: float = 0.25,
        min_resolution: float = 0.5,
        seconds_limit: float = 60,
    ) -> Surgeon:
        """Look at a model once: its blocks, channel groups and sides.

        Args:
            model: Any CNN that takes (N, in_channels, side, side) images and returns (N, classes) logits; it is copied.
            side_px: The side the model was trained at.
            in_channels: 3 for colour images, 1 for grey ones.
            round_to: Channel counts are rounded to multiples of this where the group is large enough.
            min_width: Least width keep ratio that is offered, in (0, 1].
            min_resolution: Least resolution keep ratio that is offered, in (0, 1].
            seconds_limit: No axis is searched longer than this.

        Raises:
            UnsupportedModelError: The model does not run on such images.
        """
        base = _quiet_copy(model)
        example = torch.randn(1, in_channels, side_px, side_px, generator=torch.Generator().manual_seed(0))
        tracer = _traced(base, example)
        groups, whole = find_groups(base, tracer)
        blocks = find_blocks(base, tracer, groups, example)
        sides, refusal = accepted_sides(base, candidate_sides(side_px, min_resolution), in_channels)
        anatomy = _anatomy(blocks, groups, whole, sides or (side_px,), refusal, in_channels)
        return cls(base, anatomy, tuple(blocks), tracer, round_to, min_width)

    def identity(self) -> PrunePlan:
        """Return the plan that cuts nothing."""
        return self.plan()

    def removable(self, plan: PrunePlan) -> tuple[str, ...]:
        """Return the blocks that may still go; never the last one of a stage."""
        left = [b for b in self.anatomy.blocks if b.name not in plan.removed_blocks]
        stage_sizes = {b.stage: sum(other.stage == b.stage for other in left) for b in left}
        return tuple(b.name for b in left if b.is_removable and stage_sizes[b.stage] > 1)

    def width_levels(self) -> tuple[float, ...]:
        """Return target keep ratios, falling from 1.0 to about the least width, whose rounded channel counts all differ."""
        return width_levels(self.layout(()).groups, self.round_to, self.min_width)

    def sides_px(self) -> tuple[int, ...]:
        """Return the sides that the model accepts, falling from the base side; tried, not assumed."""
        return self.anatomy.sides_px

    def plan(
        self,
        *,
        removed_blocks: tuple[str, ...] = (),
        width: float = 1.0,
        side_px: int | None = None,
        importance: str = "l2",
        state: Mapping[str, Tensor] | None = None,
        parent: PrunePlan | None = None,
        scores: Mapping[str, Tensor] | None = None,
        scope: Scope = "uniform",
    ) -> PrunePlan:
        """Turn targets into integers.

        Args:
            removed_blocks: Blocks to remove, by name.
            width: Target keep ratio of channels, in (0, 1].
            side_px: Side in pixels; the base side if None.
            importance: Criterion that ranks channels; see `triaxis.surgery.importance`.
            state: Base-shaped tensors to rank by (see `expand`); the base model's if None.
            parent: A plan whose removed channels stay removed.
            scores: By group name, one importance per base channel; overrides the criterion there.
            scope: ``uniform`` keeps the same ratio in every group, ``global`` ranks channels across groups.

        Raises:
            PlanError: A block, the width or the side is not one this model offers.
        """
        side = self.anatomy.base_side_px if side_px is None else side_px
        self._check(removed_blocks, width, side)
        layout = self.layout(removed_blocks)
        allowed = self._allowed(layout, parent)
        tensors = {**tensors_of(self.base), **(state or {})}
        ranked = {g.name: unit_scores(g, tensors, importance, scores) for g in layout.groups} if width < 1 else {}
        counts = _global_counts(layout, ranked, width, self.round_to) if scope == "global" and width < 1 else {}
        cuts = []
        for group in layout.groups:
            units = allowed[group.name]
            count = counts.get(group.name, units_to_keep(group, width, self.round_to))
            if count < len(units):
                best = ranked[group.name][units].argsort(descending=True, stable=True)[:count]
                units = units[best].sort().values
            if len(units) < group.num_units:
                cuts.append(ChannelCut(group=group.name, num_channels=group.num_channels, kept=_channels_of(group, units)))
        return PrunePlan(
            num_blocks=max(1, len(self.blocks)),
            removed_blocks=tuple(b.name for b in self.blocks if b.name in removed_blocks),
            channels=tuple(cuts),
            num_channels=max(1, layout.num_channels),
            base_side_px=self.anatomy.base_side_px,
            side_px=side,
        )

    def cut(self, plan: PrunePlan, state: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Return a new model, cut as planned, with the base model's weights or those of a base-shaped state dict.

        Raises:
            PlanError: The plan names blocks, groups or sides that this model does not have.
        """
        self._check(plan.removed_blocks, 1.0, plan.side_px)
        kept = self._kept(plan)
        given = state or {}
        model = rebuilt(self.base, lambda name, t: cut_tensor(given.get(name, t).detach(), kept.get(name, {})), self._stand_ins(plan))
        fit_attributes(model, self.base, [name for name in kept if not self._is_gone(name, plan)])
        self._drop_dense(model, plan)
        return model

    def masked(self, plan: PrunePlan, state: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Return a model of the base model's shape in which all that the plan removes is zero; it must agree with `cut`."""
        removed: dict[str, dict[int, Tensor]] = {}
        for (name, dim), positions in self._removed(plan).items():
            removed.setdefault(name, {})[dim] = positions
        given = state or {}
        bypassed = {path: Skip() for block in self._removed_blocks(plan) if block.kind != "dense" for path in block.modules}
        return rebuilt(self.base, lambda name, t: zeroed(given.get(name, t), removed.get(name, {})), bypassed)

    def expand(self, plan: PrunePlan, cut_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a base-shaped state dict with a cut model's weights in their places, and the base model's elsewhere.

        Raises:
            PlanError: The state dict is not one of a model cut by this plan.
        """
        kept = self._kept(plan)
        full = {}
        for name, base in self.base.state_dict().items():
            if name not in cut_state:
                if not self._is_gone(name, plan):
                    raise PlanError(f"The weights must be those of a model cut by this plan, but {name} is missing; cut the model with the same plan.")
                full[name] = base.clone()
                continue
            expected = tuple(len(kept.get(name, {}).get(d, range(n))) for d, n in enumerate(base.shape))
            if tuple(cut_state[name].shape) != expected:
                raise PlanError(f"{name} must have shape {expected} under this plan, got {tuple(cut_state[name].shape)}; cut with the same plan.")
            full[name] = scattered(base, cut_state[name], kept.get(name, {}))
        return full

    def layout(self, removed_blocks: tuple[str, ...]) -> Layout:
        """Return what is left to cut without these blocks."""
        key = frozenset(removed_blocks)
        if key not in self._layouts:
            self._layouts[key] = self._laid_out([b for b in self.blocks if b.name in key])
        return self._layouts[key]

    @cached_property
    def _base_groups(self) -> list[ChannelGroup]:
        return find_groups(self.base, self.tracer)[0]

    def _laid_out(self, removed: list[Block]) -> Layout:
        groups = self._groups_without(removed)
        gone = tuple(f"{path}." for block in removed for path in block.modules)
        made = {name for block in removed for name in block.made}
        vanished: dict[Place, list[Tensor]] = {}
        left = []
        for group in groups:
            members = tuple(m for m in group.members if not m.tensor.startswith(gone)) if gone else group.members
            if group.name in made:
                for m in members:
                    vanished.setdefault((m.tensor, m.dim), []).append(m.positions)
            elif members:
                left.append(ChannelGroup(group.name, group.unit_of, members, group.roots))
        return Layout(tuple(left), {place: torch.cat(parts) for place, parts in vanished.items()})

    def _groups_without(self, removed: list[Block]) -> list[ChannelGroup]:
        """Return the groups; where a run of a sequence went, what it read and what it made become the same channels."""
        runs = [b for b in removed if b.kind == "sequence"]
        if not runs or not self._base_groups:
            return self._base_groups
        tracer = copy.copy(self.tracer)
        tracer.atoms = copy.deepcopy(self.tracer.atoms)
        for block in runs:
            read, made = block.calls[0].in_labels, block.calls[-1].out_labels
            if read is not None and made is not None:
                tracer.atoms.unify(read, made)
            for labels in (read, made):
                if labels is not None and (read is None or made is None):
                    tracer.atoms.pin(labels, f"{block.name}: the block is removed and its other side cannot be cut")
        return find_groups(self.base, tracer)[0]

    def _allowed(self, layout: Layout, parent: PrunePlan | None) -> dict[str, Tensor]:
        """Return for each group the units whose every position the parent kept."""
        everything = {g.name: torch.arange(g.num_units) for g in layout.groups}
        if parent is None or not parent.channels:
            return everything
        lost = self._removed(parent)
        for group in layout.groups:
            gone = [m.units[torch.isin(m.positions, lost[m.tensor, m.dim])] for m in group.members if (m.tensor, m.dim) in lost]
            if gone:
                units = everything[group.name]
                everything[group.name] = units[~torch.isin(units, torch.cat(gone))]
                if not len(everything[group.name]):
                    raise PlanError(f"Channel group {group.name} must keep a channel, but the parent plan leaves none; remove blocks before channels.")
        return everything

    def _removed(self, plan: PrunePlan) -> dict[Place, Tensor]:
        """Return the positions that the plan removes, by tensor and dimension."""
        layout = self.layout(plan.removed_blocks)
        groups = {g.name: g for g in layout.groups}
        lost: dict[Place, list[Tensor]] = {place: [positions] for place, positions in layout.vanished.items()}
        for cut in plan.channels:
            group = groups.get(cut.group)
            if group is None or group.num_channels != cut.num_channels:
                raise PlanError(f"The plan's channel group {cut.group} with {cut.num_channels} channels must exist in the model; make the plan for this model.")
            member_lost = _lost_units(group, cut)
            for m in group.members:
                positions = m.positions[torch.isin(m.units, member_lost)]
                lost.setdefault((m.tensor, m.dim), []).append(positions)
        return {place: torch.cat(parts) for place, parts in lost.items()}

    def _kept(self, plan: PrunePlan) -> dict[str, dict[int, Tensor]]:
        return complement(self._removed(plan), tensors_of(self.base))

    def _removed_blocks(self, plan: PrunePlan) -> list[Block]:
        return [b for b in self.blocks if b.name in plan.removed_blocks]

    def _is_gone(self, name: str, plan: PrunePlan) -> bool:
        return any(inside(name, path) for block in self._removed_blocks(plan) for path in block.modules)

    def _stand_ins(self, plan: PrunePlan) -> dict[str, nn.Module]:
        stand_ins: dict[str, nn.Module] = {}
        for block in self._removed_blocks(plan):
            for path in block.modules:
                stand_ins[path] = Nothing() if block.kind == "dense" else nn.Identity() if block.calls[0].is_plain else Skip()
        return stand_ins

    def _drop_dense(self, model: nn.Module, plan: PrunePlan) -> None:
        """Take removed dense layers out of containers that are walked by name, so that nothing of them runs."""
        for block in self._removed_blocks(plan):
            parent_path, _, name = block.name.rpartition(".")
            parent = model.get_submodule(parent_path)
            if block.kind == "dense" and isinstance(parent, nn.ModuleDict):
                del parent[name]

    def _check(self, removed_blocks: tuple[str, ...], width: float, side_px: int) -> None:
        known = {b.name: b for b in self.anatomy.blocks}
        for name in removed_blocks:
            if name not in known or not known[name].is_removable:
                choice = ", ".join(b.name for b in self.anatomy.blocks if b.is_removable) or "none"
                raise PlanError(f"A removed block must be one of {choice}, got {name!r}.")
        left = {b.stage for b in self.anatomy.blocks if b.name not in removed_blocks}
        if emptied := sorted({b.stage for b in self.anatomy.blocks} - left):
            raise PlanError(f"A block must stay in each stage, but all blocks of stage {emptied[0]} are removed; keep one of them.")
        if not 0 < width <= 1:
            raise PlanError(f"The width keep ratio must be in (0, 1], got {width!r}.")
        if side_px not in self.anatomy.sides_px:
            raise PlanError(f"The side must be one that the model accepts ({', '.join(map(str, self.anatomy.sides_px))} px), got {side_px!r} px.")


def _quiet_copy(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU in eval mode."""
    return copy.deepcopy(model).cpu().eval()


def _traced(base: nn.Module, example: Tensor) -> ChannelTracer:
    try:
        return trace(base, example)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedModelError(f"The model must run on images of shape {tuple(example.shape)}, but it failed: {reason}") from error


def _anatomy(
    blocks: list[Block], groups: list[ChannelGroup], whole: dict[str, str], sides_px: tuple[int, ...], refusal: str, in_channels: int
) -> Anatomy:
    named = stages(blocks)
    infos = tuple(
        BlockInfo(name=b.name, kind=b.kind, stage=named[b.name], is_removable=b.is_removable, modules=b.modules) for b in blocks
    )
    closed: dict[str, str] = {}
    sizes = {b.stage: sum(o.stage == b.stage for o in infos) for b in infos}
    if not any(b.is_removable and sizes[b.stage] > 1 for b in infos):
        closed["depth"] = "No block can go: the model has no residual, dense or shape-keeping block beside another one of its stage."
    if not groups:
        first = next(iter(whole.items()), ("the model", "it has no convolution or linear layer whose channels are free"))
        closed["width"] = f"No channel can go: {first[0]} stays whole because of {first[1]}."
    if len(sides_px) < 2:
        closed["resolution"] = f"Only {sides_px[0]} px works: {refusal or 'no smaller side was allowed'}."
    return Anatomy(
        base_side_px=sides_px[0],
        in_channels=in_channels,
        blocks=infos,
        groups=tuple(GroupInfo(name=g.name, num_channels=g.num_channels, num_units=g.num_units) for g in groups),
        sides_px=sides_px,
        closed=closed,
        whole=whole,
    )


def _channels_of(group: ChannelGroup, units: Tensor) -> tuple[int, ...]:
    return tuple(torch.isin(group.unit_of, units).nonzero().reshape(-1).tolist())


def _lost_units(group: ChannelGroup, cut: ChannelCut) -> Tensor:
    """Return the units that a cut removes.

    Raises:
        PlanError: The cut splits a unit.
    """
    stays = torch.zeros(group.num_channels, dtype=torch.bool)
    stays[list(cut.kept)] = True
    lost = group.unit_of[~stays].unique()
    if bool(torch.isin(group.unit_of[stays], lost).any()):
        raise PlanError(f"Channel group {group.name} must be cut in whole units of {group.channels_per_unit} channels; make the plan with this model's surgeon.")
    return lost


def _global_counts(layout: Layout, ranked: Mapping[str, Tensor], width: float, round_to: int) -> dict[str, int]:
    """Return how many units each group keeps when all channels compete; scores are relative to their group's mean."""
    relative = {name: scores / scores.abs().mean().clamp_min(1e-12) for name, scores in ranked.items()}
    weights = torch.cat([torch.full((g.num_units,), float(g.channels_per_unit)) for g in layout.groups])
    pooled = torch.cat([relative[g.name] for g in layout.groups])
    order = pooled.argsort(descending=True, stable=True)
    within = weights[order].cumsum(0) <= width * float(weights.sum()) + 1e-6
    threshold = pooled[order[max(0, int(within.sum()) - 1)]]
    counts = {}
    for group in layout.groups:
        wanted = int((relative[group.name] >= threshold).sum())
        counts[group.name] = min(unit_options(group, round_to), key=lambda count: (abs(count - wanted), -count))
    return counts
