"""Open a run: the data and the base model loaded and checked, the base model trained where it has no weights."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from typing import Any

import torch
from torch import nn

from triaxis.config import BASE_RECIPE, Config, ExportConfig
from triaxis.data.images import Images, Preprocess, Splits, require_recipe
from triaxis.data.sources import load_splits
from triaxis.errors import StoreError, TriaxisError, UnsupportedModelError
from triaxis.metrics.macs import count_macs, count_params
from triaxis.models.detector import Detector, as_detector
from triaxis.models.weights import check_finite, load_model
from triaxis.models.zoos import ModelSource, unwrap
from triaxis.progress import Advance, Moment, Progress, Silent
from triaxis.stages.context import Base, Data, Opened, Run, Trainer
from triaxis.stages.costs import round_to
from triaxis.stages.elsewhere import require_cluster
from triaxis.stages.environment import how_to_train, pick_device
from triaxis.stages.forecast import forecast
from triaxis.stages.identity import identity_of_run, require_the_same, state_digest
from triaxis.stages.readiness import formats_to_write, require_packages, require_runtime, require_trainable
from triaxis.stages.task import task_of
from triaxis.store.base import Store
from triaxis.store.checkpoints import REMEDY, load_into, save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.store.memory import MemoryStore
from triaxis.surgery.criteria import criterion_of
from triaxis.surgery.find.control import Control
from triaxis.surgery.surgeon import Surgeon
from triaxis.surgery.trace.inputs import called_with
from triaxis.surgery.trace.plain import check_plain, trainable
from triaxis.tasks import Task
from triaxis.training.machine import CpuTime, warn_if_busy
from triaxis.training.stopwatch import TaskLoss
from triaxis.training.teacher import Teacher
from triaxis.values.score import score_of

log = logging.getLogger(__name__)

TIMED_TARGETS = 8
"""Images whose targets the training steps that are timed share."""


def open_run(
    config: Config,
    directory: RunDirectory,
    store: Store,
    *,
    progress: Progress | None = None,
    model: nn.Module | None = None,
    splits: Splits | None = None,
) -> Opened:
    """Load the data and the base model, training the model first if it has no weights.

    Args:
        config: The run's configuration.
        directory: Where checkpoints go.
        store: Where records go.
        progress: Shows the base training.
        model: A trained network of the caller's own, in place of `config.model`.
        splits: The caller's own data, in place of `config.data`.

    Raises:
        TriaxisError: The data or the model are unusable; see the error's own sentence.
    """
    run = Run(config, store, directory, progress or Silent())
    run.progress.score = score_of(config.task)
    device = pick_device(config)
    require_packages(config, device)
    if store.record("block_order") is None:
        require_cluster(config, device)
    since = CpuTime.now()
    task, is_named = task_of(config), splits is None
    network, splits, source, is_trained = _loaded(run, task, model, splits)
    run = _with_formats(run, network, source, device)
    train = splits.train
    run.progress.expect(forecast(run.config, lambda recipe: Teacher.remembers(train, recipe, task)))
    if store.record("base") is not None:
        run.progress.expect({"base": 0.0})
    trainer = _trainer(run, task, network, train, source, device)
    warn_if_busy(since)
    train_base(run, splits, network, source, trainer, is_trained=is_trained)
    base = Base(source, _surgeon(run, network, source, device), state_digest(network.state_dict()))
    store.put_record("anatomy", base.surgeon.anatomy.to_json())
    trainer = dataclasses.replace(trainer, teacher=Teacher(network, source.side_px, device, trainer.mode, task))
    return Opened(run, Data(splits, splits.digest(), is_named), base, trainer)


def _loaded(run: Run, task: Task, model: nn.Module | None, splits: Splits | None) -> tuple[nn.Module, Splits, ModelSource, bool]:
    """Return the network, the splits, how to make the network again, and whether its weights are trained; all are usable."""
    with run.timed("load") as advance:
        advance(0.0, "data and model")
        loaded = None
        if splits is None or model is None:
            splits, loaded = _load(run.config, run.store, task, splits, model)
        network = _own_copy(model) if model is not None else trainable(loaded.model)  # type: ignore[union-attr]
        if isinstance(network, Detector):
            network.normalises_as(splits.train.preprocess)
        called_with(network, run.config.example_input)
        source = _source(run.config, splits, named=model is None)
        _require_usable(run.config, task, network, splits, source)
    return network, splits, source, model is not None or (loaded is not None and loaded.is_trained)


def _trainer(run: Run, task: Task, network: nn.Module, train: Images, source: ModelSource, device: torch.device) -> Trainer:
    config, some = run.config, next(iter(train.in_order(source.side_px, limit=TIMED_TARGETS)))
    shape = (min(config.base.batch_size, 64), source.in_channels, source.side_px, source.side_px)
    mode, machine = how_to_train(config, run.store, network, shape, device, TaskLoss(task, some.labels))
    return Trainer(
        device=device,
        mode=mode,
        folder=run.directory.checkpoints,
        task=task,
        machine=machine,
        calibrate_images=config.collect.calibrate_images,
        save_s=60 * config.save_minutes,
    )


def _surgeon(run: Run, network: nn.Module, source: ModelSource, device: torch.device) -> Surgeon:
    config = run.config
    with run.timed("examine") as advance:
        advance(0.0, "finding what can be cut")
        return Surgeon.examine(
            network,
            side_px=source.side_px,
            in_channels=source.in_channels,
            round_to=round_to(run, device),
            min_width=config.collect.min_width,
            min_resolution=config.collect.min_resolution,
            protect=source.protect,
            prune_only=source.prune_only,
        )


def _with_formats(run: Run, network: nn.Module, source: ModelSource, device: torch.device) -> Run:
    """Keep the formats that can be written, and make sure that the runtime can run the model."""
    shape = (source.in_channels, source.side_px, source.side_px)
    formats = formats_to_write(run.config, run.store, network, shape)
    require_runtime(run.config, run.store, network, shape, device)
    return dataclasses.replace(run, config=run.config.model_copy(update={"export": ExportConfig(formats=formats)}))


def _own_copy(model: nn.Module) -> nn.Module:
    """What is handed over stays as it is."""
    model = unwrap(model)
    check_plain(model)
    return trainable(as_detector(copy.deepcopy(model)))


def load_parts(config: Config) -> tuple[Splits, Any]:
    """Return the data and the model that a configuration names; nothing is trained, and nothing written.

    Raises:
        TriaxisError: The data or the model are unusable.
    """
    return _load(config, MemoryStore(), task_of(config), None, None)


def _load(config: Config, store: Store, task: Task, splits: Splits | None, model: nn.Module | None) -> tuple[Splits, Any]:
    """Load what was not handed over; the model says how its images must look, the data how many classes it needs."""
    chosen = config.model
    torch.manual_seed(config.seed)
    if splits is not None:
        return splits, load_model(chosen.name, chosen.args, chosen.num_classes or splits.train.num_classes, chosen.weights)
    if model is not None:
        return _load_splits(config, store, task, chosen.side_px), None
    probe = load_model(chosen.name, chosen.args, chosen.num_classes or 10)
    # A zoo's input side is meant for its own pictures; the CIFAR families take what the data have.
    splits = _load_splits(config, store, task, chosen.side_px or probe.side_px, probe.preprocess)
    torch.manual_seed(config.seed)
    return splits, load_model(chosen.name, chosen.args, chosen.num_classes or splits.train.num_classes, chosen.weights)


def _load_splits(config: Config, store: Store, task: Task, side_px: int | None, preprocess: Preprocess | None = None) -> Splits:
    """Load the images, and remember which files could be read: a later opening checks only those that changed."""
    before = store.record("checked_images") or {}
    checked = dict(before)
    splits = load_splits(config.data, side_px=side_px, preprocess=preprocess, checked=checked, task=task)
    if checked != before:
        store.put_record("checked_images", checked)
    return splits


def _source(config: Config, splits: Splits, *, named: bool) -> ModelSource:
    shape = next(iter(splits.train.in_order(splits.train.side_px, limit=1))).images.shape
    return ModelSource(
        name=config.model.name if named else "",
        args=config.model.args if named else {},
        num_classes=config.model.num_classes or splits.train.num_classes,
        side_px=splits.train.side_px,
        in_channels=shape[1],
        protect=config.protect,
        prune_only=config.prune_only,
        example_input=config.example_input,
    )


def _require_usable(config: Config, task: Task, network: nn.Module, splits: Splits, source: ModelSource) -> None:
    """Say what would fail later, before anything is trained: weights, two blank images through the network, batches.

    Raises:
        ConfigError: The criterion or a module to protect or to prune cannot be found, or a recipe does not suit the images or the task.
        UnsupportedModelError: The network holds NaN, fails, cannot be trained, or returns what the task cannot use.
        DataError: The train split does not fill a batch, or labels are none of the task.
    """
    criterion_of(config.width.importance)
    Control.of(network, config.protect, config.prune_only)
    for name, images in (("train", splits.train), ("val", splits.val)):
        if images.labels is not None:
            task.check_targets(images.labels, splits.train.num_classes, name)
    check_finite(network, "the base model")
    network = network.cpu().eval()
    shape = (2, source.in_channels, source.side_px, source.side_px)
    try:
        with torch.no_grad():
            output = task.forward(network, torch.zeros(shape))
    except TriaxisError:
        raise
    except Exception as error:  # a network of the user's own may raise anything
        reason = str(error).partition("\n")[0]
        raise UnsupportedModelError(
            f"The model must take images of shape {shape} and return its outputs, but it raised {type(error).__name__}: {reason}."
        ) from error
    task.check_output(output, 2, splits.train.num_classes)
    require_trainable(network, task, next(iter(splits.train.in_order(source.side_px, limit=2))).labels, shape, source.num_classes)
    collect = config.collect
    for recipe in (collect.shared if collect.method == "elastic" else collect.recipe, config.finetune):
        require_recipe(splits.train, recipe, "train")
        task.transform(recipe, source.num_classes)


def train_base(run: Run, splits: Splits, network: nn.Module, source: ModelSource, trainer: Trainer, *, is_trained: bool) -> None:
    """Give the network its trained weights: from an earlier process, or by training now.

    Raises:
        ExperimentMismatchError: The run began with other weights or images.
        StoreError: The base model's checkpoint is damaged, or not the one that the trials began with.
    """
    config, store, checkpoint = run.config, run.store, run.directory.checkpoint("base")
    identity = identity_of_run(state_digest(network.state_dict()) if is_trained else None, splits)
    require_the_same(run.directory, store, identity)
    if store.record("base") is not None:
        if not checkpoint.exists():
            _restore_base(run, splits, network, source, trainer, is_trained=is_trained)
        trainer.forget("base")
        load_into(network, checkpoint)
        _require_same_base(run, network)
        return
    num_images = 0
    with run.timed("base") as advance:
        tell = functools.partial(_tell, advance, "training the base model")
        if not is_trained:
            done = trainer.finetune(network, splits.train, config.base, side_px=source.side_px, seed=config.seed, name="base", advance=tell)
            num_images = done.num_images
        elif config.base != BASE_RECIPE:
            log.warning("the settings under base have no effect: the base model is trained already")
        found = trainer.evaluate(network, splits.val, source.side_px)
        advance(1.0, "", Moment(event="result", val_accuracy=found.value))
    macs = count_macs(network, (source.in_channels, source.side_px, source.side_px))
    save_checkpoint(checkpoint, network.state_dict())
    measured = {
        "val_accuracy": found.value,
        "val_interval": list(found.interval),
        "val_loss": found.loss,
        "macs": macs,
        "params": count_params(network),
        "train_macs": float(num_images * macs),
    }
    store.put_record("base", measured | identity)
    trainer.forget("base")
    log.info("base model: val %s %.4f, %d MACs", score_of(config.task), found.value, macs)


def _restore_base(run: Run, splits: Splits, network: nn.Module, source: ModelSource, trainer: Trainer, *, is_trained: bool) -> None:
    """Make the base model's checkpoint again, which was removed.

    Raises:
        StoreError: On this machine it comes out with other weights than the trials were cut from.
    """
    checkpoint = run.directory.checkpoint("base")
    log.warning("%s is gone: it is made again", checkpoint)
    if not is_trained:
        trainer.finetune(network, splits.train, run.config.base, side_px=source.side_px, seed=run.config.seed, name="base")
    network.eval()
    _require_same_base(run, network)
    save_checkpoint(checkpoint, network.state_dict())


def _tell(advance: Advance, note: str, share: float, moment: Moment) -> None:
    advance(share, note, moment)


def _require_same_base(run: Run, network: nn.Module) -> None:
    """Trials know the base model that they were cut from: another one in its place would have them all measured again.

    Raises:
        StoreError: The base model's checkpoint is not the one that the trials began with.
    """
    known = {trial.spec.base_digest for trial in run.store.trials()}
    if known and state_digest(network.state_dict()) not in known:
        raise StoreError(
            f"{run.directory.checkpoint('base')} must hold the base model of this run's trials, but its weights are others: {REMEDY}."
        )
