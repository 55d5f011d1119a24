"""Weights that were lost: a checkpoint that was removed, such as a damaged one, is made again; what was measured stays as it is."""

from __future__ import annotations

import logging

from triaxis.errors import StoreError
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.trial import run_trial
from triaxis.values import DoneTrial

log = logging.getLogger(__name__)


def restore_weights(run: Run, data: Data, base: Base, trainer: Trainer, trial_id: str | None) -> None:
    """Train a stored trial again if its checkpoint is gone, and before it those that it starts from.

    Args:
        run: The run's configuration, store and directory.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        trial_id: The trial; None, or one that is not done, needs nothing.

    Raises:
        StoreError: The trial comes out as another cut on this machine.
    """
    trial = run.store.trial(trial_id) if trial_id else None
    if not isinstance(trial, DoneTrial) or trial.checkpoint is None or (run.directory.path / trial.checkpoint).exists():
        return
    log.warning("%s is gone: trial %s is trained again for its weights; its result stays as it is", trial.checkpoint, trial_id)
    restore_weights(run, data, base, trainer, trial.spec.parent)
    again = run_trial(run, data, base, trainer, trial.spec)
    trainer.forget(again.trial_id)
    if again.plan != trial.plan:
        (run.directory.path / trial.checkpoint).unlink()
        raise StoreError(
            f"{run.directory.path / trial.checkpoint} must be made again as it was, but here the trial comes out as another cut: "
            "put a copy of the file back."
        )
