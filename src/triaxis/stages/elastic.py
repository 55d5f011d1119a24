"""Collect by elastic training: one training of weights that all cuts share, then many cuts measured without training any.

Each step trains one cut, drawn at random and half of the time near the budgets, with the base model as its teacher. A cut is
then measured by cutting the shared weights and estimating its batch-norm statistics anew. The shared weights choose the cut;
the final fine-tune starts from the base model's.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from triaxis.maths.elastic import draws, mean_cost, rows_near, spread
from triaxis.maths.fit import fit
from triaxis.maths.lattice import Lattice, Levels, Place
from triaxis.maths.solve import candidates
from triaxis.metrics.macs import count_macs, count_params
from triaxis.process.walltime import ledger
from triaxis.progress import Meter, Moment, Tell
from triaxis.stages.collect import record_cost, teacher_macs
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.effort import base_training, collect_share, images_per_epoch
from triaxis.stages.fit import points_from_trials
from triaxis.stages.trial import gradients_of
from triaxis.store.checkpoints import load_checkpoint, save_checkpoint
from triaxis.surgery.criteria import criterion_of
from triaxis.surgery.shared import NestedCuts, SharedWeights, channel_order
from triaxis.training.calibrate import calibrate
from triaxis.training.elastic import train_elastic
from triaxis.values import AXES, BudgetSpec, CostTable, DoneTrial, KeepRatios, PrunePlan, Recipe, TrialSpec

log = logging.getLogger(__name__)

NAME = "elastic"
"""Of the checkpoint and of the record."""

SHARE_OF_TRAINING = 0.9
"""Of the stage, for the bar: the rest is measuring."""

PART_AT_BUDGETS = 0.25
"""Part of the measured cuts that are those predicted best within the budgets, measured last."""

Questions = Sequence[Sequence[BudgetSpec]]
"""What will be asked of one collection: for each question, the budgets that hold together."""


def collect_elastic(run: Run, data: Data, base: Base, trainer: Trainer, table: CostTable, questions: Questions) -> tuple[DoneTrial, ...]:
    """Train the shared weights and measure cuts all over the lattice; what is there already is not done again.

    Args:
        run: The run's configuration, store and directory.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        table: The lattice of possible cuts, in the order of blocks first chosen.
        questions: Budgets near which cuts are trained more often.

    Raises:
        TrainingError: The loss became NaN or infinite.
        UnsupportedModelError: The network has weights that depend on the side.
        StoreError: A checkpoint or record cannot be written.
    """
    num, cuts = run.config.collect.num_cuts, nested_cuts(run, data, base, trainer)
    with run.timed("collect") as advance:

        def tell(part: float, moment: Moment) -> None:
            advance(SHARE_OF_TRAINING * part, "training cuts that share weights", moment)

        recipe = train_shared(run, data, base, trainer, table, questions, tell)
        state = load_checkpoint(run.directory.checkpoint(NAME))

        def measured(wanted: Sequence[Levels], done: int) -> list[DoneTrial]:
            found = []
            for n, levels in enumerate(wanted, done + 1):
                found.append(measure_cut(run, data, base, trainer, spec_at(run, data, base, table, levels, recipe), cuts, state))
                moment = Moment(event="result", trial=n, num_trials=num, val_accuracy=found[-1].val_accuracy)
                advance(SHARE_OF_TRAINING + (1 - SHARE_OF_TRAINING) * min(1.0, n / num), str(found[-1].achieved), moment)
            return found

        everywhere = spread(table, num - round(PART_AT_BUDGETS * num), min_ratios=smallest(run), seed=run.config.seed)
        trials = measured(everywhere, 0)
        trials += measured(promising(run, table, trials, questions, num - len(trials)), len(trials))
    run.store.put_record(NAME, {**(run.store.record(NAME) or {}), "lift": lift(run, trials)})
    record_cost(run, data, trainer, run.store.trials())
    return tuple(trials)


def lift(run: Run, trials: Sequence[DoneTrial]) -> float:
    """Return what is added to accuracies measured with shared weights: the base model's own, less that of the uncut network.

    So the predictor answers for networks that are trained by themselves. Cuts are taken to lose as much by sharing as the
    uncut network does.
    """
    uncut = next(t.val_accuracy for t in trials if t.spec.axis == "base")
    return float((run.store.record("base") or {})["val_accuracy"]) - uncut


def promising(run: Run, table: CostTable, trials: Sequence[DoneTrial], questions: Questions, num: int) -> list[Levels]:
    """Return about `num` cuts that a predictor fitted to the trials so far finds best within each question's budgets, in turns."""
    config = run.config.fit
    predictor, _ = fit(points_from_trials(trials), kind=config.kind, degree=config.degree, rank=config.rank)
    lattice = Lattice(table)
    known = {lattice.of_target(trial.spec.target) for trial in trials}
    rankings = []
    for specs in questions:
        budgets = [spec.resolve(table.base_cost(spec.metric)) for spec in specs]
        best = candidates(predictor, table, budgets, num=num + len(known))
        places = [lattice.at(Place(s.blocks, s.width, s.side_px)) for s in best]
        rankings.append([levels for levels in places if levels not in known])
    in_turns = [levels for place in itertools.zip_longest(*rankings) for levels in place if levels is not None]
    return list(dict.fromkeys(in_turns))[:num]


def nested_cuts(run: Run, data: Data, base: Base, trainer: Trainer) -> NestedCuts:
    """Return the cuts that share weights: blocks in the order first chosen, channels as the base model's weights rank them."""
    surgeon, width = base.surgeon, run.config.width
    criterion, gradients = criterion_of(width.importance), None
    if criterion.needs_gradients:
        gradients = gradients_of(run, data, base, trainer, surgeon.identity(), surgeon.base.state_dict())
    order = tuple(run.store.record("first_block_order") or ())
    return NestedCuts(surgeon, order, channel_order(surgeon, criterion, gradients, seed=run.config.seed), width.scope)


def smallest(run: Run) -> KeepRatios:
    """Return the smallest keep ratios that the configuration tries."""
    collect = run.config.collect
    return KeepRatios(depth=collect.min_depth, width=collect.min_width, resolution=collect.min_resolution)


def schedule(run: Run, data: Data, table: CostTable, questions: Questions) -> tuple[Recipe, list[Levels]]:
    """Return the recipe of the elastic training, as many whole epochs as its effort pays for, and the cut of each step."""
    recipe, low = run.config.collect.shared, smallest(run)
    limits = [[(spec.metric, spec.resolve(table.base_cost(spec.metric)).limit) for spec in specs] for specs in questions]
    near = [rows_near(table, together, min_ratios=low) for together in limits]
    effort = collect_share(run.config) * base_training(run, data) / (recipe.batch_size * table.base_cost("macs"))
    steps = draws(table, effort, min_ratios=low, near=near, seed=run.config.seed)
    per_epoch = images_per_epoch(recipe, data.splits.train) // recipe.batch_size
    epochs = max(1, len(steps) // per_epoch)
    # The least is one epoch, which may be more steps than the effort pays for: then the same cuts again.
    return dataclasses.replace(recipe, epochs=epochs), list(itertools.islice(itertools.cycle(steps), epochs * per_epoch))


def train_shared(run: Run, data: Data, base: Base, trainer: Trainer, table: CostTable, questions: Questions, advance: Tell) -> Recipe:
    """Train the shared weights unless an earlier process did; return the recipe that they were trained by."""
    record, checkpoint = run.store.record(NAME), run.directory.checkpoint(NAME)
    if record is not None and checkpoint.exists():
        trainer.forget(NAME)
        return Recipe.from_json(record["recipe"])
    recipe, steps = schedule(run, data, table, questions)
    cuts, views = nested_cuts(run, data, base, trainer), run.config.collect.views
    shared = SharedWeights(base.surgeon, trainer.device, trainer.mode.torch_format)
    plan_of: Callable[[Levels], PrunePlan] = functools.cache(lambda levels: plan_at(cuts, table, levels))
    start = time.perf_counter()
    done = train_elastic(
        shared,
        data.splits.train,
        recipe,
        lambda step: plan_of(steps[step]),
        views=views,
        seed=run.config.seed,
        device=trainer.device,
        mode=trainer.mode,
        teacher=trainer.teacher,
        on_step=Meter(advance, epochs=recipe.epochs, batch_size=recipe.batch_size),
        resume_path=trainer.resume_file(NAME),
        machine=trainer.machine,
        save_s=trainer.save_s,
        keep_state=True,
        task=trainer.task,
    )
    save_checkpoint(checkpoint, shared.model.state_dict())
    spent = {
        "train_macs": done.num_images * mean_cost(table, steps) * table.base_cost("macs"),
        "teacher_macs": teacher_macs(run, data, trainer, [_looked_at(recipe, views, data, trainer)]),
        "seconds": time.perf_counter() - start,
    }
    run.store.put_record(NAME, {"recipe": recipe.to_json(), **spent})
    trainer.forget(NAME)
    log.info("elastic training: %d epochs, mean loss %.4f in the last", recipe.epochs, done.losses[-1])
    return recipe


def _looked_at(recipe: Recipe, views: int, data: Data, trainer: Trainer) -> Recipe:
    """Return the recipe with as many epochs as the teacher looks at: where it remembers its answers, each view once."""
    is_repeated = views and trainer.remembers(data.splits.train, recipe)
    return dataclasses.replace(recipe, epochs=min(recipe.epochs, views)) if is_repeated else recipe


def is_elastic(run: Run) -> bool:
    """Whether the run has trained shared weights, so that its cuts are nested ones."""
    return run.store.record(NAME) is not None


def plan_at(cuts: NestedCuts, table: CostTable, levels: Levels) -> PrunePlan:
    """Return the plan at levels of the lattice."""
    return cuts.plan(*Lattice(table).place(levels))


def spec_at(run: Run, data: Data, base: Base, table: CostTable, levels: Levels, recipe: Recipe) -> TrialSpec:
    """Return the trial at levels of the lattice."""
    return TrialSpec(
        target=Lattice(table).target(levels),
        axis=_axis(levels),
        recipe=recipe,
        seed=run.config.seed,
        base_digest=base.digest,
        data_digest=data.digest,
    )


def measure_cut(
    run: Run, data: Data, base: Base, trainer: Trainer, spec: TrialSpec, cuts: NestedCuts, state: dict[str, Tensor]
) -> DoneTrial:
    """Return a cut's val accuracy with the shared weights and statistics of its own; from the store where it was measured before."""
    if isinstance(known := run.store.trial(spec.trial_id), DoneTrial):
        return known
    start, target, base_plan = time.perf_counter(), spec.target, base.surgeon.identity()
    with ledger() as spent:
        side_px = round(target.resolution * base_plan.base_side_px)
        plan = cuts.plan(round(target.depth * base_plan.num_blocks), target.width, side_px)
        model = base.surgeon.cut(plan, state)
        macs = count_macs(model, base.shape_at(plan.side_px))
        num_images = trainer.calibrate_images
        calibrate(model, data.splits.train, plan.side_px, trainer.device, recipe=spec.recipe, num_images=num_images)
        found = trainer.evaluate(model, data.splits.val, plan.side_px)
    result = DoneTrial(
        spec=spec,
        plan=plan,
        val_accuracy=found.value,
        val_interval=found.interval,
        val_loss=found.loss,
        macs=macs,
        params=count_params(model),
        seconds=time.perf_counter() - start,
        seconds_by_part=spent,
    )
    run.store.put_trial(result)
    return result


def _axis(levels: Levels) -> Literal["base", "depth", "width", "resolution", "joint"]:
    cut = [axis for axis, level in zip(AXES, levels, strict=True) if level]
    return "joint" if len(cut) > 1 else cut[0] if cut else "base"
