"""The surgeon: examines a model once, then plans and applies cuts along depth, width and resolution."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import thread_time

import torch
from torch import Tensor, nn

from triaxis.errors import PlanError
from triaxis.process.usual_torch import usual_torch
from triaxis.process.walltime import part
from triaxis.surgery.criteria import Criterion, Evidence, criterion_of, unit_scores
from triaxis.surgery.cut import apply, caches
from triaxis.surgery.cut.metadata import correct_metadata
from triaxis.surgery.cut.positions import resampled, resize
from triaxis.surgery.cut.sides import accepted_sides, candidate_sides, runs
from triaxis.surgery.find.blocks import Block, find_blocks, inside, stages
from triaxis.surgery.find.channels import ChannelGroup, find_groups
from triaxis.surgery.find.control import NOT_LISTED, PROTECTED, Control
from triaxis.surgery.find.layout import Layout, Loss, lay_out, loss_of
from triaxis.surgery.find.planning import Scope, channel_cuts
from triaxis.surgery.find.ratios import width_levels
from triaxis.surgery.proof import Proof
from triaxis.surgery.reading import Reading, find_sites, read, read_otherwise
from triaxis.surgery.trace.attention import freed
from triaxis.surgery.trace.inputs import Maker, called_with
from triaxis.surgery.trace.plain import check_plain
from triaxis.surgery.trace.sites import Site
from triaxis.surgery.trace.tracing import ChannelTracer
from triaxis.values import Anatomy, BlockInfo, GroupInfo, PrunePlan


@dataclass(repr=False)
class Surgeon:
    """Plans and applies cuts of one model. Make it with `Surgeon.examine`.

    `base` is a copy of the model on the CPU in eval mode; `anatomy` says what can be cut.
    """

    base: nn.Module
    anatomy: Anatomy
    blocks: tuple[Block, ...]
    tracer: ChannelTracer
    round_to: int
    min_width: float
    sites: tuple[Site, ...] = ()
    constants: frozenset[caches.Cache] = frozenset()
    control: Control = field(default_factory=Control)
    _groups: list[ChannelGroup] = field(default_factory=list)
    _layouts: dict[frozenset[str], Layout] = field(default_factory=dict)
    _needs_resize: dict[int, bool] = field(default_factory=dict)

    @classmethod
    @usual_torch()
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
        protect: Sequence[str] | str = (),
        prune_only: Sequence[str] | str = (),
        example_input: str | Maker | None = None,
    ) -> Surgeon:
        """Look at a model once: its blocks, channel groups and sides; keep only what is proved to be cut right.

        Args:
            model: Any network that takes (N, in_channels, side, side) images and returns (N, classes) logits; it is copied.
            side_px: The side the model was trained at.
            in_channels: 3 for colour images, 1 for grey ones.
            round_to: Channel counts are rounded to multiples of this where the group is large enough.
            min_width: Least width keep ratio that is offered, in (0, 1].
            min_resolution: Least resolution keep ratio that is offered, in (0, 1].
            seconds_limit: CPU seconds; after this, what is not yet proved is left whole.
            protect: Modules, by path or glob, of which nothing is cut; what is inside them is meant too.
            prune_only: Modules that alone may lose blocks and the channels they make; all, if empty.
            example_input: For a model that takes more than pictures: a function that makes its arguments from a batch of them, or its
                name; see `triaxis.surgery.trace.inputs`.

        Raises:
            ConfigError: A name in `protect` or `prune_only` matches no module, or `example_input` names no function.
            UnsupportedModelError: The model does not run on such images, or its weights are not plain tensors.
        """
        check_plain(model)
        deadline = thread_time() + seconds_limit
        base = called_with(freed(copy.deepcopy(model).cpu().eval()), example_input)
        control = Control.of(base, protect, prune_only)
        example = torch.randn(1, in_channels, side_px, side_px, generator=torch.Generator().manual_seed(0))
        constants = caches.empty(base, example)
        reading = read(base, example)
        sides, refusal = accepted_sides(base, candidate_sides(side_px, min_resolution), in_channels, deadline)
        empty = Anatomy(base_side_px=side_px, in_channels=in_channels, blocks=(), groups=(), sides_px=sides or (side_px,))
        surgeon = cls(base, empty, (), reading.tracer, round_to, min_width, constants=constants, control=control)
        surgeon._explore(reading, example, deadline)
        surgeon._close(refusal)
        surgeon.tracer.release()
        return surgeon

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

    @part("cutting")
    def plan(
        self,
        *,
        removed_blocks: tuple[str, ...] = (),
        width: float = 1.0,
        side_px: int | None = None,
        importance: str | Criterion = "l2",
        state: Mapping[str, Tensor] | None = None,
        parent: PrunePlan | None = None,
        gradients: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        scope: Scope = "uniform",
    ) -> PrunePlan:
        """Turn targets into integers.

        Args:
            removed_blocks: Blocks to remove, by name.
            width: Target keep ratio of channels, in (0, 1].
            side_px: Side in pixels; the base side if None.
            importance: Criterion that ranks channels, or its name; see `triaxis.surgery.criteria`.
            state: Base-shaped tensors to rank by (see `expand`); the base model's if None.
            parent: A plan whose removed channels stay removed.
            gradients: Base-shaped gradients of the loss, for a criterion that needs them.
            seed: For a criterion that draws by chance.
            scope: ``uniform`` keeps the same ratio in every group, ``global`` ranks channels across groups.

        Raises:
            PlanError: A block, the width or the side is not one this model offers.
            ConfigError: There is no such criterion, or it does not do what it must.
        """
        side = self.anatomy.base_side_px if side_px is None else side_px
        self._check(removed_blocks, width, side)
        layout = self.layout(removed_blocks)
        tensors = {**apply.tensors_of(self.base), **(state or {})}
        criterion, evidence = criterion_of(importance), Evidence(tensors, gradients or {}, seed)
        ranked = {g.name: unit_scores(g, criterion, evidence) for g in layout.groups} if width < 1 else {}
        lost = self.loss(parent) if parent is not None and parent.channels else None
        return PrunePlan(
            num_blocks=max(1, len(self.blocks)),
            removed_blocks=tuple(b.name for b in self.blocks if b.name in removed_blocks),
            channels=channel_cuts(layout, width, ranked, lost, self.round_to, scope),
            num_channels=max(1, layout.num_channels),
            base_side_px=self.anatomy.base_side_px,
            side_px=side,
        )

    @part("cutting")
    def cut(self, plan: PrunePlan, state: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Return a new model on the CPU, cut as planned, with the base weights or those of a base-shaped state dict.

        Raises:
            PlanError: The plan names blocks, groups or sides that this model does not have.
        """
        self._check(plan.removed_blocks, 1.0, plan.side_px)
        loss, layout = self.loss(plan), self.layout(plan.removed_blocks)
        base, given = self._at(plan.side_px, state)
        kept = apply.complement(loss.positions, apply.tensors_of(base))
        removed = self._removed_blocks(plan)
        stand_ins = {path: apply.Skip() if block.passes_input else apply.Nothing() for block in removed for path in block.modules}
        model = apply.rebuilt(base, lambda name, t: apply.cut_tensor(given.get(name, t), kept.get(name, {})), stand_ins)
        apply.fit_attributes(model, base, [name for name in kept if not self._is_gone(name, plan)])
        sizes = [s for s in self.tracer.sizes if not self._is_gone(f"{s.path}.", plan)] if len(loss.classes) else []
        apply.fit_sizes(model, base, sizes, lambda labels: loss.survivors(layout.atoms, labels), self.tracer.counts_heads)
        apply.fit_numbers(
            model,
            [s for s in self.sites if not self._is_gone(f"{s.path}.", plan)] if len(loss.classes) else [],
            lambda p, d: loss.length(layout.atoms, p, d),
        )
        apply.drop_from_containers(model, [b.name for b in removed if not b.passes_input])
        outputs = {call.path: call.out_labels for call in self.tracer.calls}

        def channels(path: str) -> int | None:
            labels = outputs.get(path)
            return None if labels is None else loss.survivors(layout.atoms, labels)

        correct_metadata(model, base, plan.side_px, self.anatomy.base_side_px, channels)
        return model

    def masked(self, plan: PrunePlan, state: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Return a model of the base model's shape in which all that the plan removes is zero or bypassed; it agrees with `cut`."""
        lost = apply.by_tensor(self.loss(plan).positions)
        base, given = self._at(plan.side_px, state)
        blocks = self._removed_blocks(plan)
        bypassed = {path: apply.Skip() for b in blocks if b.kind != "dense" for path in b.modules}
        silent = tuple(f"{b.name}." for b in blocks if b.kind == "dense" and b.passes_input)

        def change(name: str, tensor: Tensor) -> Tensor:
            masked = apply.zeroed(given.get(name, tensor), lost.get(name, {}))
            return torch.zeros_like(masked) if silent and name.startswith(silent) and isinstance(tensor, nn.Parameter) else masked

        return apply.rebuilt(base, change, bypassed)

    @part("cutting")
    def expand(self, plan: PrunePlan, cut_state: Mapping[str, Tensor], elsewhere: float | None = None) -> dict[str, Tensor]:
        """Return a base-shaped state dict with a cut model's weights in their places, and the base model's or a number elsewhere.

        Raises:
            PlanError: The state dict is not one of a model cut by this plan.
        """
        resized, _ = self._at(plan.side_px, None)
        shapes = {name: t.shape for name, t in resized.state_dict().items()}
        kept = apply.complement(self.loss(plan).positions, apply.tensors_of(resized))
        full = {}
        for name, own in self.base.state_dict().items():
            base = own if elsewhere is None else torch.full_like(own, elsewhere)
            if self._is_gone(name, plan):
                full[name] = base.clone()
                continue
            expected = tuple(len(kept.get(name, {}).get(d, range(n))) for d, n in enumerate(shapes[name]))
            found = tuple(cut_state[name].shape) if name in cut_state else None
            if found != expected:
                raise PlanError(f"Under this plan {name} must have shape {expected}, got {found}; take the weights of a model cut by it.")
            own = base if shapes[name] == base.shape else resized.state_dict()[name]
            full[name] = apply.scattered(own, cut_state[name], kept.get(name, {}))
            if shapes[name] != base.shape:
                full[name] = resampled(full[name], tuple(base.shape)) if base.is_floating_point() else base.clone()
        return full

    def layout(self, removed_blocks: tuple[str, ...]) -> Layout:
        """Return what is left to cut without these blocks; cached."""
        key = frozenset(removed_blocks)
        if key not in self._layouts:
            self._layouts[key] = lay_out(self.base, self.tracer, self._groups, [b for b in self.blocks if b.name in key])
        return self._layouts[key]

    def _explore(self, reading: Reading, example: Tensor, deadline: float) -> None:
        """Find groups and blocks; leave whole what the proof finds at fault, then look again."""
        self._find(example)
        faults = Proof(self, deadline).faulty_groups()
        other = read_otherwise(self.base, example, reading, [g for g in self._groups if g.name in faults]) if faults else None
        if other is not None:
            self.tracer = other.tracer
            self._find(example)
            faults = Proof(self, deadline).faulty_groups()
        if faults:
            roots = {g.name: g.roots for g in self._groups}
            for name, problem in faults.items():
                self.tracer.atoms.pin(roots[name], problem)
            self._find(example)
        if stuck := Proof(self, deadline).faulty_blocks():
            self._describe([dataclasses.replace(b, is_removable=False, why=stuck[b.name]) if b.name in stuck else b for b in self.blocks])

    def _find(self, example: Tensor) -> None:
        self.control.hold(self.base, self.tracer)
        self._groups, whole = find_groups(self.base, self.tracer)
        groups = tuple(GroupInfo(name=g.name, num_channels=g.num_channels, num_units=g.num_units) for g in self._groups)
        self.anatomy = dataclasses.replace(self.anatomy, groups=groups, whole=whole)
        self._describe(self.control.held(find_blocks(self.base, self.tracer, self._groups)))
        self.sites = ()
        self.sites = find_sites(self, example) if self._groups else ()

    def _describe(self, blocks: list[Block]) -> None:
        """Set the blocks and write them down."""
        self._layouts.clear()
        self.blocks = tuple(blocks)
        named = stages(blocks)
        self.anatomy = dataclasses.replace(
            self.anatomy,
            blocks=tuple(
                BlockInfo(name=b.name, kind=b.kind, stage=named[b.name], is_removable=b.is_removable, modules=b.modules, why=b.why)
                for b in blocks
            ),
        )

    def _close(self, refusal: str) -> None:
        """Say which axes offer no choice, and why."""
        closed: dict[str, str] = {}
        if not self.removable(self.identity()):
            held = next((f"{b.name} stays: {b.why}" for b in self.anatomy.blocks if b.why.endswith((PROTECTED, NOT_LISTED))), "")
            alone = "no residual, dense or shape-keeping block stands beside another one of its stage"
            closed["depth"] = f"No block can go: {held or alone}."
        if not self.anatomy.groups:
            layer, reason = next(iter(self.anatomy.whole.items()), ("the model", "it has no convolution or linear layer"))
            closed["width"] = f"No channel can go; {layer} stays whole: {reason}."
        if len(self.anatomy.sides_px) < 2:
            closed["resolution"] = f"Only {self.anatomy.base_side_px} px works: {refusal or 'no smaller side was allowed'}."
        self.anatomy = dataclasses.replace(self.anatomy, closed=closed)

    def loss(self, plan: PrunePlan) -> Loss:
        """Return what a plan removes, by tensor and by label."""
        return loss_of(plan, self.layout(plan.removed_blocks))

    def kept(self, plan: PrunePlan) -> dict[str, dict[int, Tensor]]:
        """Return by tensor and dimension the positions that stay under a plan; a tensor that loses nothing is left out."""
        return apply.complement(self.loss(plan).positions, apply.tensors_of(self._at(plan.side_px, None)[0]))

    def needs_resize(self, side_px: int) -> bool:
        """Whether the base model takes this side only after tables of it, such as position embeddings, are resampled."""
        if side_px not in self._needs_resize:
            image = torch.zeros(1, self.anatomy.in_channels, side_px, side_px)
            with torch.no_grad():
                self._needs_resize[side_px] = side_px != self.anatomy.base_side_px and not runs(self.base, image)
            caches.forget(self.base, self.constants)
        return self._needs_resize[side_px]

    def _at(self, side_px: int, state: Mapping[str, Tensor] | None) -> tuple[nn.Module, Mapping[str, Tensor]]:
        """Return the base model as it takes a side, and the tensors to put into it; a new model where tables must be resampled."""
        caches.forget(self.base, self.constants)
        base_px, given = self.anatomy.base_side_px, state or {}
        if not self.needs_resize(side_px):
            return self.base, given
        full = apply.rebuilt(self.base, lambda name, t: given.get(name, t).detach().cpu().clone(), {})
        resize(full, base_px, side_px)
        return full, {}

    def _removed_blocks(self, plan: PrunePlan) -> list[Block]:
        return [b for b in self.blocks if b.name in plan.removed_blocks]

    def _is_gone(self, name: str, plan: PrunePlan) -> bool:
        return any(inside(name, path) for block in self._removed_blocks(plan) for path in block.modules)

    def _check(self, removed_blocks: tuple[str, ...], width: float, side_px: int) -> None:
        known = {b.name: b for b in self.anatomy.blocks}
        for name in removed_blocks:
            if name not in known or not known[name].is_removable:
                choice = ", ".join(b.name for b in self.anatomy.blocks if b.is_removable) or "none"
                raise PlanError(f"A removed block must be one of {choice}; got {name!r}.")
        left = {b.stage for b in self.anatomy.blocks if b.name not in removed_blocks}
        if emptied := sorted({b.stage for b in self.anatomy.blocks} - left):
            raise PlanError(f"A block must stay in each stage, but all blocks of stage {emptied[0]} are removed; keep one of them.")
        if not 0 < width <= 1:
            raise PlanError(f"The width keep ratio must be in (0, 1], got {width!r}; 1 keeps all channels.")
        if side_px not in self.anatomy.sides_px:
            choice = ", ".join(map(str, self.anatomy.sides_px))
            raise PlanError(f"The side must be one that the model accepts ({choice} px), got {side_px!r} px.")
