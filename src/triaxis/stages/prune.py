"""Prune: cut the model at the chosen cut, and fine-tune it at full length."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn

from triaxis.metrics.macs import count_macs
from triaxis.progress import Moment, Tell
from triaxis.stages.choose import Choice
from triaxis.stages.collect import teacher_macs
from triaxis.stages.context import Workbench
from triaxis.store.checkpoints import load_into, save_checkpoint
from triaxis.training.evaluate import evaluate
from triaxis.values import PrunePlan, digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """The delivered network with its plan, its val accuracy, and what its fine-tuning cost in images x MACs."""

    model: nn.Module
    plan: PrunePlan
    val_accuracy: float
    train_macs: float


def prune(bench: Workbench, choice: Choice) -> Pruned:
    """Cut at the choice and fine-tune at full length.

    Args:
        bench: The data, the base model, the device.
        choice: A cut within every budget.

    Raises:
        TrainingError: The loss became NaN or infinite.
    """
    with bench.timed("prune") as advance:
        advance(0.0, "cutting")
        model = bench.surgeon.cut(choice.plan, choice.state)
        pruned = _finish(bench, choice.plan, model, lambda part, moment: advance(part, "fine-tuning", moment))
        advance(1.0, "", Moment(event="result", val_accuracy=pruned.val_accuracy))
        bench.store.put_record("plan", choice.plan.to_json())
    return pruned


def _finish(bench: Workbench, plan: PrunePlan, model: nn.Module, advance: Tell) -> Pruned:
    """Fine-tune at full length, or take the weights that an earlier process finished for the same plan."""
    recipe = bench.config.finetune
    name = "final-" + digest({"plan": plan.to_json(), "recipe": recipe.to_json(), "base": bench.base_digest, "data": bench.data_digest})
    path, key = bench.run.checkpoint(name), f"final:{name}"
    record = bench.store.record(key)
    if record is not None and path.exists():
        load_into(model, path, "remove it, and the same command makes it again from the trials")
        return Pruned(model.eval(), plan, record["val_accuracy"], record["train_macs"])
    macs = count_macs(model, (bench.source.in_channels, plan.side_px, plan.side_px))
    done = bench.finetune(model, plan, recipe, seed=bench.config.seed, name=name, advance=advance)
    found = evaluate(model, bench.splits.val, plan.side_px, bench.device)
    effort = float(done.num_images * macs) + teacher_macs(bench, [recipe])
    save_checkpoint(path, model.state_dict())
    bench.store.put_record(key, {"val_accuracy": bench.accuracy(found), "train_macs": effort})
    return Pruned(model, plan, bench.accuracy(found), effort)
