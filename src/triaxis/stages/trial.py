"""Trial: one cut, fine-tuned briefly, calibrated and evaluated; and how the channels and blocks of a cut are chosen."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor

from triaxis.metrics.macs import count_macs, count_params
from triaxis.process.walltime import ledger
from triaxis.progress import Tell
from triaxis.stages.block_choice import Losses, choose_blocks
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.store.checkpoints import load_checkpoint, save_checkpoint
from triaxis.surgery.criteria import criterion_of
from triaxis.values import DoneTrial, KeepRatios, PrunePlan, TrialSpec


def run_trial(run: Run, data: Data, base: Base, trainer: Trainer, spec: TrialSpec, advance: Tell | None = None) -> DoneTrial:
    """Cut, fine-tune briefly, calibrate and evaluate one trial; its checkpoint is on disk when this returns."""
    start = time.perf_counter()
    with ledger() as spent:
        parent, state = parent_of(run, base, spec)
        result, weights = measured(run, data, base, trainer, spec, parent, state, advance)
        path = save_checkpoint(run.directory.checkpoint(spec.trial_id), weights)
        result = dataclasses.replace(result, checkpoint=str(path.relative_to(run.directory.path)))
    return dataclasses.replace(result, seconds=time.perf_counter() - start, seconds_by_part=spent)


def measured(
    run: Run,
    data: Data,
    base: Base,
    trainer: Trainer,
    spec: TrialSpec,
    parent: PrunePlan,
    state: dict[str, Tensor],
    advance: Tell | None = None,
) -> tuple[DoneTrial, dict[str, Tensor]]:
    """Return a trial's result and its fine-tuned weights; nothing of the store or the directory of the run is touched.

    Args:
        run: Its configuration is used.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        spec: The trial.
        parent: The plan of its parent.
        state: The parent's weights, in the base model's shapes.
        advance: Told how far the fine-tune is.
    """
    plan = child_plan(run, data, base, trainer, spec.target, parent, state, known=base.losses if spec.parent is None else None)
    model = base.surgeon.cut(plan, state)
    macs = count_macs(model, base.shape_at(plan.side_px))
    done = trainer.finetune(
        model, data.splits.train, spec.recipe, side_px=plan.side_px, seed=spec.seed, name=spec.trial_id, advance=advance
    )
    found = trainer.evaluate(model, data.splits.val, plan.side_px)
    result = DoneTrial(
        spec=spec,
        plan=plan,
        val_accuracy=found.value,
        val_interval=found.interval,
        val_loss=found.loss,
        macs=macs,
        params=count_params(model),
        train_macs=float(done.num_images * macs),
    )
    return result, model.state_dict()


def parent_of(run: Run, base: Base, spec: TrialSpec) -> tuple[PrunePlan, dict[str, Tensor]]:
    """Return the parent's plan, and its fine-tuned weights in the base model's shapes."""
    if spec.parent is None:
        return base.surgeon.identity(), base.surgeon.base.state_dict()
    parent = run.store.trial(spec.parent)
    assert isinstance(parent, DoneTrial) and parent.checkpoint is not None
    return parent.plan, base.surgeon.expand(parent.plan, load_checkpoint(run.directory.path / parent.checkpoint))


def child_plan(
    run: Run,
    data: Data,
    base: Base,
    trainer: Trainer,
    target: KeepRatios,
    parent: PrunePlan,
    state: dict[str, Tensor],
    *,
    known: Losses | None = None,
) -> PrunePlan:
    """Return the plan that cuts a parent down to the target ratios, blocks chosen by measured loss; `known` as for `choose_blocks`."""
    surgeon, config = base.surgeon, run.config
    wanted = parent.num_blocks - round(target.depth * parent.num_blocks)
    removed = choose_blocks(
        surgeon,
        parent,
        state,
        max(0, wanted - len(parent.removed_blocks)),
        lambda model, side_px: trainer.quick_loss(model, data.splits.train, side_px, config.collect.block_images),
        known=known,
    )
    side_px = round(target.resolution * parent.base_side_px)
    return narrowed(run, data, base, trainer, removed, target.width, side_px, parent, state)


def narrowed(
    run: Run,
    data: Data,
    base: Base,
    trainer: Trainer,
    removed: tuple[str, ...],
    width: float,
    side_px: int,
    parent: PrunePlan,
    state: dict[str, Tensor],
) -> PrunePlan:
    """Return the plan that removes blocks and keeps the most important channels, ranked by the parent's weights."""
    criterion = criterion_of(run.config.width.importance)
    return base.surgeon.plan(
        removed_blocks=removed,
        width=width,
        side_px=side_px,
        importance=criterion,
        state=state,
        gradients=gradients_of(run, data, base, trainer, parent, state) if criterion.needs_gradients and width < 1 else None,
        seed=run.config.seed,
        parent=parent,
        scope=run.config.width.scope,
    )


def gradients_of(run: Run, data: Data, base: Base, trainer: Trainer, parent: PrunePlan, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients of the parent's loss on some train images in the base model's shapes, 0 for what the parent has lost."""
    model = base.surgeon.cut(parent, state)
    num_images = run.config.collect.block_images
    found = trainer.loss_gradients(model, data.splits.train, parent.side_px, num_images)
    none = {name: torch.zeros_like(tensor, device="cpu") for name, tensor in model.state_dict().items()}
    return base.surgeon.expand(parent, none | found, elsewhere=0.0)
