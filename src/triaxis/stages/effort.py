"""Effort: what may be trained after the base model, in shares of base training, split between collecting and fine-tuning.

Effort is counted in images x MACs of the networks that are trained. Base training is what the base model took, or, where
it came trained, what the recipe under `base` would take.
"""

from __future__ import annotations

import logging
from collections.abc import Sized

from triaxis.config import Config
from triaxis.stages.context import Data, Run
from triaxis.values import Recipe, done_trials

log = logging.getLogger(__name__)


def base_training(run: Run, data: Data) -> float:
    """Return base training in images x MACs; 0 where the model came trained and the recipe under `base` trains nothing here."""
    record = run.store.record("base") or {}
    return record.get("train_macs") or recipe_images(run.config.base, data.splits.train) * float(record["macs"])


def recipe_images(recipe: Recipe, images: Sized) -> int:
    """Return the images that a recipe trains on: whole batches in each epoch."""
    return recipe.epochs * images_per_epoch(recipe, images)


def images_per_epoch(recipe: Recipe, images: Sized) -> int:
    """Return the images of the whole batches of one epoch."""
    return len(images) // recipe.batch_size * recipe.batch_size


def collect_share(config: Config) -> float:
    """Return what elastic training may take, in shares of base training: as configured, but at most its part of a small effort."""
    collect = config.collect
    return collect.effort if config.effort is None else min(collect.effort, collect.largest_part * config.effort)


def collected(run: Run) -> float:
    """Return the images x MACs that collecting has trained so far, without the teacher's looks."""
    shared = (run.store.record("elastic") or {}).get("train_macs", 0.0)
    return shared + sum(trial.train_macs for trial in done_trials(run.store.trials()))


def finetune_epochs(run: Run, data: Data, macs: float) -> int:
    """Return the epochs of the final fine-tune: those of its recipe, or what collecting has left of the configured effort.

    Args:
        run: The run, after collecting.
        data: The images.
        macs: Of the network to fine-tune, for one image.
    """
    config = run.config
    if config.effort is None:
        return config.finetune.epochs
    left = config.effort * base_training(run, data) - collected(run)
    return max(1, int(left / (images_per_epoch(config.finetune, data.splits.train) * macs)))


def record_effort(run: Run, data: Data, finetuned: float) -> None:
    """Store what was trained after the base model, in shares of base training, without the teacher's looks; say if it is too much.

    Args:
        run: The run, after collecting.
        data: The images.
        finetuned: Images x MACs of the final fine-tune.
    """
    base = base_training(run, data)
    if not base:
        # A trained base model, and too few images for one batch of the recipe that would have trained it.
        return
    shares, asked = {"collect": collected(run) / base, "finetune": finetuned / base}, run.config.effort
    total = sum(shares.values())
    run.store.put_record("effort", {**shares, "total": total, "asked": asked})
    if asked is not None and total > asked * (1 + 1e-9):
        log.warning(
            "the effort is %.2f of base training, more than the %.2f asked for: collecting took %.2f, and one epoch of fine-tuning is the "
            "least; ask for more, or take collect.method: elastic in a new run",
            total, asked, shares["collect"],
        )  # fmt: skip
