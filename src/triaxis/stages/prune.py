"""Prune: cut the model at the chosen cut, and fine-tune it at full length."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

from torch import nn

from triaxis.metrics.macs import count_macs
from triaxis.progress import Moment, Tell
from triaxis.stages.choose import Choice
from triaxis.stages.collect import teacher_macs
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.effort import finetune_epochs, recipe_images, record_effort
from triaxis.store.checkpoints import load_into, save_checkpoint
from triaxis.values import PrunePlan, digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """The delivered network with its plan, its val accuracy, and what its fine-tuning cost in images x MACs."""

    model: nn.Module
    plan: PrunePlan
    val_accuracy: float
    train_macs: float
    val_interval: tuple[float, float] | None = None


def prune(run: Run, data: Data, base: Base, trainer: Trainer, choice: Choice) -> Pruned:
    """Cut at the choice and fine-tune at full length.

    Args:
        run: The run's configuration, store and directory.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        choice: A cut within every budget.

    Raises:
        TrainingError: The loss became NaN or infinite.
    """
    with run.timed("prune") as advance:
        advance(0.0, "cutting")
        model = base.surgeon.cut(choice.plan, choice.state)
        pruned = _finish(run, data, base, trainer, choice.plan, model, lambda part, moment: advance(part, "fine-tuning", moment))
        advance(1.0, "", Moment(event="result", val_accuracy=pruned.val_accuracy))
        run.store.put_record("plan", choice.plan.to_json())
    return pruned


def _finish(run: Run, data: Data, base: Base, trainer: Trainer, plan: PrunePlan, model: nn.Module, advance: Tell) -> Pruned:
    """Fine-tune at full length, or take the weights that an earlier process finished for the same plan."""
    macs = count_macs(model, base.shape_at(plan.side_px))
    recipe = dataclasses.replace(run.config.finetune, epochs=finetune_epochs(run, data, macs))
    record_effort(run, data, float(recipe_images(recipe, data.splits.train) * macs))
    name = "final-" + digest({"plan": plan.to_json(), "recipe": recipe.to_json(), "base": base.digest, "data": data.digest})
    path, key = run.directory.checkpoint(name), f"final:{name}"
    record = run.store.record(key)
    if record is not None and path.exists():
        trainer.forget(name)
        load_into(model, path, "remove it, and the same command makes it again from the trials")
        return Pruned(model.eval(), plan, record["val_accuracy"], record["train_macs"], _pair(record.get("val_interval")))
    done = trainer.finetune(model, data.splits.train, recipe, side_px=plan.side_px, seed=run.config.seed, name=name, advance=advance)
    found = trainer.evaluate(model, data.splits.val, plan.side_px)
    effort = float(done.num_images * macs) + teacher_macs(run, data, trainer, [recipe])
    save_checkpoint(path, model.state_dict())
    run.store.put_record(key, {"val_accuracy": found.value, "val_interval": list(found.interval), "train_macs": effort})
    trainer.forget(name)
    return Pruned(model, plan, found.value, effort, found.interval)


def _pair(plain: list[float] | None) -> tuple[float, float] | None:
    return None if plain is None else (plain[0], plain[1])
