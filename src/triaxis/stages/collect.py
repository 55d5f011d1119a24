"""Collect: a chain of short trials along each axis, each cut from its parent's fine-tuned weights."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from triaxis.errors import TrainingError
from triaxis.execution import SerialExecutor, Work, run_trials
from triaxis.maths.design import axis_design, steepest
from triaxis.maths.lattice import BASE, Lattice, Levels, on_axis
from triaxis.process.walltime import added
from triaxis.progress import Moment, Tell
from triaxis.stages.block_choice import choose_blocks
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.effort import collected
from triaxis.stages.elsewhere import executor_of, work_elsewhere
from triaxis.stages.forecast import TEACHER_SHARE, effort
from triaxis.stages.restore import restore_weights
from triaxis.stages.trial import run_trial
from triaxis.stages.under_way import UnderWay
from triaxis.values import AXES, Axis, CostTable, DoneTrial, FailedTrial, KeepRatios, Recipe, TrialResult, TrialSpec, done_trials
from triaxis.values.score import said, score_of

log = logging.getLogger(__name__)


GAIN_OF_A_TRAINED_MODEL = 0.02
"""What a short fine-tune with distillation may add to a trained model's val accuracy."""


def collect(run: Run, data: Data, base: Base, trainer: Trainer, table: CostTable) -> tuple[TrialResult, ...]:
    """Measure the trials of the design that are not in the store yet, and return them all.

    The base model as it is, evaluated without training, is the first point.

    Args:
        run: The run's configuration, store and directory.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        table: The lattice of possible cuts, in which the design chooses its levels.

    Raises:
        StoreError: A checkpoint or record cannot be written.
    """
    specs = design(run, data, base, table)
    trials = measure_trials(run, data, base, trainer, specs, "collect", num_trials=len(specs) + _num_between(run))
    more = between(run, data, base, table, trials)
    run.progress.expect({"between": 0.0})
    if more:
        trials += measure_trials(run, data, base, trainer, more, "collect", first=len(specs))
    record_cost(run, data, trainer, run.store.trials())
    _require_some(trials)
    if remark := said(undertrained(trials), score_of(run.config.task)):
        log.warning("%s", remark)
    return trials


def _require_some(trials: Sequence[TrialResult]) -> None:
    """Say how many trials failed; raise if none is left that cuts anything."""
    failed, cuts = [t for t in trials if isinstance(t, FailedTrial)], [t for t in trials if t.spec.axis != "base"]
    if not failed:
        return
    reason = failed[0].reason
    if not done_trials(cuts):
        raise TrainingError(f"Some trials must succeed, but all {len(cuts)} failed, the first with {reason}: `triaxis status` shows each.")
    log.warning("%d of %d trials failed, the first with %s; the same command tries them again", len(failed), len(trials), reason)


def undertrained(trials: Sequence[TrialResult]) -> str:
    """Say it if a trial, which cuts the base model and trains it on a little, is clearly better than the base model."""
    done = done_trials(trials)
    base = max((t.val_accuracy for t in done if t.spec.axis == "base"), default=1.0)
    best = max((t.val_accuracy for t in done), default=0.0)
    if best < base + GAIN_OF_A_TRAINED_MODEL:
        return ""
    return (
        f"the base model's val accuracy, {base:.1%}, is below that of a cut one, {best:.1%}: it is not trained to the end, "
        "so predictions are rough; train it longer, and run again in a new directory"
    )


def measure_trials(
    run: Run,
    data: Data,
    base: Base,
    trainer: Trainer,
    specs: Sequence[TrialSpec],
    stage: str,
    *,
    first: int = 0,
    num_trials: int | None = None,
) -> tuple[TrialResult, ...]:
    """Measure the trials that are not in the store yet, and return the results of all, in order.

    Args:
        run: The run's configuration, store and directory.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        specs: The trials.
        stage: Under which their time is shown.
        first: Trials before these, for their numbers.
        num_trials: Trials in all, these and those before and after; None if none follow.
    """
    places = {spec.trial_id: Moment(trial=n, num_trials=num_trials or first + len(specs)) for n, spec in enumerate(specs, first + 1)}
    total = sum(_effort(spec) for spec in specs)
    known = [result for spec in specs if isinstance(result := run.store.trial(spec.trial_id), DoneTrial)]
    done = sum(_effort(result.spec) for result in known)
    for result in known:
        # A process that was killed between the two has stored the result and left the state.
        trainer.forget(result.trial_id)
    have = {result.trial_id for result in known}
    for parent in dict.fromkeys(spec.parent for spec in specs if spec.trial_id not in have):
        restore_weights(run, data, base, trainer, parent)
    run.progress.expect({stage: total})
    with run.timed(stage) as advance:
        advance(done / total, "")
        under_way = UnderWay(advance, specs, places, _effort, done)

        def on_result(result: TrialResult) -> None:
            run.store.put_trial(result)
            if isinstance(result, DoneTrial):
                trainer.forget(result.trial_id)
            under_way.ended(result, _words(result))

        is_here = run.config.collect.executor == "serial"
        work = _work_here(run, data, base, trainer) if is_here else work_elsewhere(run, data, base, trainer)
        executor = SerialExecutor() if is_here else executor_of(run.config, trainer.device, trainer.machine.threads)
        return run_trials(executor, specs, dataclasses.replace(work, hear=under_way.hear), on_result, known=run.store.trial)


def _work_here(run: Run, data: Data, base: Base, trainer: Trainer) -> Work:
    """Return the work of trials in this process, which reads and writes the run directory itself."""

    def do(spec: TrialSpec, given: Any, tell: Tell) -> tuple[TrialResult, None]:
        tell(0.0, Moment())
        return run_trial(run, data, base, trainer, spec, tell), None

    return Work(do)


def design(run: Run, data: Data, base: Base, table: CostTable) -> tuple[TrialSpec, ...]:
    """Return the trials to measure first: the base model, then one chain per axis."""
    collect = run.config.collect
    floors = KeepRatios(depth=collect.min_depth, width=collect.min_width, resolution=collect.min_resolution)
    specs = [_spec(run, data, base, table, BASE, "base", None)]
    parents: dict[Axis, str | None] = dict.fromkeys(AXES)
    for axis, levels in axis_design(table, num_trials=collect.num_trials - _num_between(run), min_ratios=floors):
        spec = _spec(run, data, base, table, levels, axis, parents[axis])
        parents[axis] = spec.trial_id
        specs.append(spec)
    return tuple(specs)


def _num_between(run: Run) -> int:
    return run.config.collect.num_trials // 3


def between(run: Run, data: Data, base: Base, table: CostTable, trials: Sequence[TrialResult]) -> tuple[TrialSpec, ...]:
    """Return the trials to measure next: inside the steps of the chains over which accuracy falls most."""
    lattice = Lattice(table)
    done = {lattice.of_target(t.spec.target): t for t in done_trials(trials)}
    accuracies = {levels: t.val_accuracy for levels, t in done.items()}
    ids = {levels: t.trial_id for levels, t in done.items() if any(levels)}
    specs = []
    for axis, levels in steepest(table, accuracies, _num_between(run)):
        a = AXES.index(axis)
        above = [place for place in ids if place == on_axis(axis, place[a]) and place < levels]
        spec = _spec(run, data, base, table, levels, axis, ids[max(above)] if above else None)
        ids[levels] = spec.trial_id
        specs.append(spec)
    return tuple(specs)


def joint_spec(run: Run, data: Data, base: Base, table: CostTable, levels: Levels) -> TrialSpec:
    """Return a trial that cuts several axes at once, from the depth chain's trial that is nearest above in depth."""
    depth = Lattice(table).ratios(levels).depth
    chain = [t for t in done_trials(run.store.trials()) if t.spec.axis == "depth" and t.achieved.depth >= depth - 1e-9]
    parent = min(chain, key=lambda t: t.achieved.depth, default=None)
    return _spec(run, data, base, table, levels, "joint", parent.trial_id if parent else None)


def _spec(run: Run, data: Data, base: Base, table: CostTable, levels: Levels, axis: str, parent: str | None) -> TrialSpec:
    recipe = run.config.collect.recipe
    return TrialSpec(
        target=Lattice(table).target(levels),
        axis=axis,  # type: ignore[arg-type]
        parent=parent,
        recipe=dataclasses.replace(recipe, epochs=0) if axis == "base" else recipe,
        seed=run.config.seed,
        base_digest=base.digest,
        data_digest=data.digest,
    )


def first_block_order(run: Run, data: Data, base: Base, trainer: Trainer) -> tuple[str, ...]:
    """Return every removable block in an order of removal, judged on the base model before any trial."""
    surgeon = base.surgeon
    removable = len(surgeon.removable(surgeon.identity()))
    with run.timed("blocks") as advance:
        advance(0.0, "finding in which order blocks can go")
        return choose_blocks(
            surgeon,
            surgeon.identity(),
            surgeon.base.state_dict(),
            removable,
            lambda model, side_px: trainer.quick_loss(model, data.splits.train, side_px, run.config.collect.block_images),
            known=base.losses,
        )


def final_block_order(base: Base, trials: Sequence[TrialResult], first: Sequence[str]) -> tuple[str, ...]:
    """Return the order of removal that the depth chain took, followed by what it left, as first judged."""
    chain = [t.plan.removed_blocks for t in done_trials(trials) if t.spec.axis == "depth"]
    order: list[str] = []
    for removed in sorted(chain, key=len):
        order += [name for name in first if name in removed and name not in order]
    while left := set(base.surgeon.removable(base.surgeon.plan(removed_blocks=tuple(order)))):
        order.append(next((name for name in first if name in left), sorted(left)[0]))
    return tuple(order)


def record_cost(run: Run, data: Data, trainer: Trainer, trials: Sequence[TrialResult]) -> None:
    """Store what the collection cost, beside the base model's training: in images x MACs, and in wall time of the trials."""
    base_record = run.store.record("base") or {}
    seconds, base_seconds = sum(t.seconds for t in trials), (run.store.record("seconds") or {}).get("base")
    shared = run.store.record("elastic")
    looked = shared["teacher_macs"] if shared else teacher_macs(run, data, trainer, [t.spec.recipe for t in trials])
    total = collected(run) + looked
    if shared:
        seconds += shared["seconds"]
    # Trials of version 0.1 have no interval of their own: the report makes one from these.
    kept = {key: item for key, item in (run.store.record("collection") or {}).items() if key == "val_class_sizes"}
    run.store.put_record(
        "collection",
        {
            **kept,
            "num_trials": len(trials),
            "num_failed": len(trials) - len(done_trials(trials)),
            "num_val": len(data.splits.val),
            "train_macs": total,
            "cost_ratio": total / base_record["train_macs"] if base_record.get("train_macs") else None,
            "seconds": seconds,
            "seconds_by_part": added(*(t.seconds_by_part for t in trials)),
            "time_ratio": seconds / base_seconds if base_record.get("train_macs") and base_seconds else None,
        },
    )


def teacher_macs(run: Run, data: Data, trainer: Trainer, recipes: Sequence[Recipe]) -> float:
    """Return what the base model's soft labels cost, in the images x MACs of training: each epoch once where they are remembered."""
    taught = [recipe for recipe in recipes if recipe.distill > 0]
    num_images = [recipe.epochs * (len(data.splits.train) // recipe.batch_size) * recipe.batch_size for recipe in taught]
    is_remembered = all(trainer.remembers(data.splits.train, recipe) for recipe in taught)
    num_looked_at = max(num_images, default=0) if is_remembered else sum(num_images)
    return TEACHER_SHARE * num_looked_at * float((run.store.record("base") or {})["macs"])


def _effort(spec: TrialSpec) -> float:
    """A trial's expected effort, in epochs of the base model."""
    target = spec.target
    return effort(spec.recipe, target.depth * target.width**2 * target.resolution**2)


def _words(result: TrialResult) -> str:
    return str(result.achieved) if isinstance(result, DoneTrial) else f"failed: {result.reason}"
