"""The base model's training, and what makes sure that a run goes on with the same weights and images."""

from __future__ import annotations

import functools
import hashlib
import logging

import torch
from torch import Tensor, nn

from triaxis.config import BASE_RECIPE, Config
from triaxis.data.images import Splits
from triaxis.errors import StoreError
from triaxis.metrics.macs import count_macs, count_params
from triaxis.models.zoos import ModelSource
from triaxis.progress import Advance, Meter, Moment, Progress
from triaxis.stages.identity import base_resume, identity_of_run, require_the_same
from triaxis.stages.timing import timed
from triaxis.store.base import Store
from triaxis.store.checkpoints import REMEDY, load_into, save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.training.evaluate import evaluate
from triaxis.training.loop import OnStep, TrainingLog, finetune
from triaxis.training.machine import Machine
from triaxis.training.mode import Mode

log = logging.getLogger(__name__)


def train_base(
    config: Config,
    run: RunDirectory,
    store: Store,
    network: nn.Module,
    splits: Splits,
    source: ModelSource,
    device: torch.device,
    mode: Mode,
    machine: Machine,
    progress: Progress,
    is_trained: bool,
) -> None:
    """Give the network its trained weights: from an earlier process, or by training now."""
    identity = identity_of_run(state_digest(network.state_dict()) if is_trained else None, splits)
    require_the_same(run, store, identity)
    if store.record("base") is not None:
        load_into(network, run.checkpoint("base"))
        _require_same_base(run, store, network)
        return
    num_images = 0
    with timed(store, progress, "base") as advance:
        tell = functools.partial(_tell, advance, "training the base model")
        if not is_trained:
            meter = Meter(tell, epochs=config.base.epochs, batch_size=config.base.batch_size)
            done = _finetune_base(config, run, network, splits, source, device, mode, machine, on_step=meter)
            num_images = done.num_images
        elif config.base != BASE_RECIPE:
            log.warning("the settings under base have no effect: the base model is trained already")
        found = evaluate(network, splits.val, source.side_px, device)
        advance(1.0, "", Moment(event="result", val_accuracy=found.accuracy))
    macs = count_macs(network, (source.in_channels, source.side_px, source.side_px))
    save_checkpoint(run.checkpoint("base"), network.state_dict())
    measured = {
        "val_accuracy": found.balanced_accuracy if config.fit.target == "balanced_accuracy" else found.accuracy,
        "val_loss": found.loss,
        "macs": macs,
        "params": count_params(network),
        "train_macs": float(num_images * macs),
    }
    store.put_record("base", measured | identity)
    log.info("base model: val accuracy %.4f, %d MACs", found.accuracy, macs)


def _tell(advance: Advance, note: str, share: float, moment: Moment) -> None:
    advance(share, note, moment)


def _require_same_base(run: RunDirectory, store: Store, network: nn.Module) -> None:
    """Trials know the base model that they were cut from: another one in its place would have them all measured again.

    Raises:
        StoreError: The base model's checkpoint is not the one that the trials began with.
    """
    known = {trial.spec.base_digest for trial in store.trials()}
    if known and state_digest(network.state_dict()) not in known:
        raise StoreError(f"{run.checkpoint('base')} must hold the base model of this run's trials, but its weights are others: {REMEDY}.")


def _finetune_base(
    config: Config,
    run: RunDirectory,
    network: nn.Module,
    splits: Splits,
    source: ModelSource,
    device: torch.device,
    mode: Mode,
    machine: Machine,
    on_step: OnStep,
) -> TrainingLog:
    return finetune(
        network,
        splits.train,
        config.base,
        side_px=source.side_px,
        seed=config.seed,
        device=device,
        mode=mode,
        on_step=on_step,
        resume_path=base_resume(run),
        calibrate_images=config.collect.calibrate_images,
        machine=machine,
        save_s=60 * config.save_minutes,
    )


def state_digest(state: dict[str, Tensor]) -> str:
    """Return 16 hexadecimal characters over the names and values of a state dict."""
    seal = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        seal.update(name.encode())
        seal.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return seal.hexdigest()[:16]
