"""What the stages that touch the network share: the data, the base model and how to cut it, the device."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from triaxis.config import Config, ExportConfig
from triaxis.data.images import Preprocess, Splits, require_recipe
from triaxis.data.sources import load_splits
from triaxis.errors import ConfigError, UnsupportedModelError
from triaxis.models.weights import check_finite, load_model
from triaxis.models.zoos import ModelSource, unwrap
from triaxis.progress import Advance, Meter, Progress, Silent, Tell
from triaxis.stages.base import state_digest, train_base
from triaxis.stages.environment import how_to_train
from triaxis.stages.forecast import forecast
from triaxis.stages.readiness import formats_to_write, require_packages, require_runtime, require_trainable
from triaxis.stages.timing import timed
from triaxis.store.base import Store
from triaxis.store.directory import RunDirectory
from triaxis.surgery.criteria import criterion_of
from triaxis.surgery.plain import check_plain, trainable
from triaxis.surgery.surgeon import Surgeon
from triaxis.training.evaluate import Evaluation, check_output
from triaxis.training.loop import TrainingLog, finetune
from triaxis.training.machine import CpuTime, Machine, num_threads, warn_if_busy
from triaxis.training.mode import Mode
from triaxis.training.teacher import Teacher
from triaxis.values import PrunePlan, Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workbench:
    """Everything that the stages after loading need; made by `open_workbench`."""

    config: Config
    run: RunDirectory
    store: Store
    splits: Splits
    source: ModelSource
    surgeon: Surgeon
    teacher: Teacher
    device: torch.device
    mode: Mode
    base_digest: str
    data_digest: str
    progress: Progress
    machine: Machine = field(default_factory=Machine)
    base_losses: dict[tuple[str, ...], float] = field(default_factory=dict)
    """Losses of the base model without some of its blocks, as `choose_blocks` measured them in this process."""

    @property
    def side_px(self) -> int:
        """The base model's side."""
        return self.source.side_px

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, S, S) of the base model."""
        return (self.source.in_channels, self.side_px, self.side_px)

    def accuracy(self, evaluation: Evaluation) -> float:
        """Return the accuracy that the configuration asks to predict."""
        return evaluation.balanced_accuracy if self.config.fit.target == "balanced_accuracy" else evaluation.accuracy

    def finetune(
        self, model: nn.Module, plan: PrunePlan, recipe: Recipe, *, seed: int, name: str, advance: Tell | None = None
    ) -> TrainingLog:
        """Fine-tune a cut model in place at its plan's side, taught by the base model; cut off, the same `name` goes on.

        Args:
            model: Cut by `plan`.
            plan: Says the side.
            recipe: How to train.
            seed: Fixes the order, the augmentation and dropout.
            name: Of the file that keeps the state between epochs.
            advance: Told the share that is done, the epoch, the loss and the speed.
        """
        return finetune(
            model,
            self.splits.train,
            recipe,
            side_px=plan.side_px,
            seed=seed,
            device=self.device,
            mode=self.mode,
            teacher=self.teacher,
            on_step=Meter(advance, epochs=recipe.epochs, batch_size=recipe.batch_size) if advance else None,
            resume_path=self.run.checkpoints / f"{name}.resume",
            calibrate_images=self.config.collect.calibrate_images,
            machine=self.machine,
            save_s=60 * self.config.save_minutes,
        )

    def measuring(self) -> AbstractContextManager[None]:
        """Work on the threads that latency is measured on: all that the run may use, however few training takes."""
        return num_threads(self.machine.most)

    @contextmanager
    def timed(self, stage: str) -> Iterator[Advance]:
        """Show a stage and add its seconds to the record."""
        with timed(self.store, self.progress, stage) as advance:
            yield advance


def open_workbench(
    config: Config,
    run: RunDirectory,
    store: Store,
    *,
    progress: Progress | None = None,
    model: nn.Module | None = None,
    splits: Splits | None = None,
) -> Workbench:
    """Load the data and the base model, training the model first if it has no weights.

    Args:
        config: The run's configuration.
        run: Where checkpoints go.
        store: Where records go.
        progress: Shows the base training.
        model: A trained network of the caller's own, in place of `config.model`.
        splits: The caller's own data, in place of `config.data`.

    Raises:
        TriaxisError: The data or the model are unusable; see the error's own sentence.
    """
    progress = progress or Silent()
    device = pick_device(config)
    require_packages(config, device)
    since = CpuTime.now()
    with timed(store, progress, "load") as advance:
        advance(0.0, "data and model")
        loaded = None
        if splits is None or model is None:
            splits, loaded = _load(config, store, splits, model)
        network = _own_copy(model) if model is not None else trainable(loaded.model)  # type: ignore[union-attr]
        source = _source(config, splits, named=model is None)
        _require_usable(config, network, splits, source)
        config = _with_formats(config, store, network, source, device)
    train = splits.train
    progress.expect(forecast(config, lambda recipe: Teacher.remembers(train, recipe)))
    if store.record("base") is not None:
        progress.expect({"base": 0.0})
    shape = (min(config.base.batch_size, 64), source.in_channels, source.side_px, source.side_px)
    mode, machine = how_to_train(config, store, network, shape, device)
    warn_if_busy(since)
    trained = model is not None or (loaded is not None and loaded.is_trained)
    train_base(config, run, store, network, splits, source, device, mode, machine, progress, trained)
    surgeon = _surgeon(config, store, network, source, progress)
    store.put_record("anatomy", surgeon.anatomy.to_json())
    return Workbench(
        config=config,
        run=run,
        store=store,
        splits=splits,
        source=source,
        surgeon=surgeon,
        teacher=Teacher(network, source.side_px, device, mode),
        device=device,
        mode=mode,
        base_digest=state_digest(network.state_dict()),
        data_digest=splits.digest(),
        progress=progress,
        machine=machine,
    )


def _surgeon(config: Config, store: Store, network: nn.Module, source: ModelSource, progress: Progress) -> Surgeon:
    with timed(store, progress, "examine") as advance:
        advance(0.0, "finding what can be cut")
        return Surgeon.examine(
            network,
            side_px=source.side_px,
            in_channels=source.in_channels,
            round_to=config.width.round_to,
            min_width=config.collect.min_width,
            min_resolution=config.collect.min_resolution,
        )


def pick_device(config: Config) -> torch.device:
    """Return the device to work on, and set the number of threads.

    Raises:
        ConfigError: The named device is not there.
    """
    from accelerate import PartialState

    if config.threads:
        torch.set_num_threads(config.threads)
    if config.device == "auto":
        return PartialState().default_device
    device = torch.device(config.device)
    is_there = getattr(getattr(torch, device.type, None), "is_available", lambda: False)
    if device.type != "cpu" and not is_there():
        raise ConfigError(f"device must be one that this machine has, got {config.device!r}: set device: auto.")
    return device


def _own_copy(model: nn.Module) -> nn.Module:
    """What is handed over stays as it is."""
    model = unwrap(model)
    check_plain(model)
    return trainable(copy.deepcopy(model))


def _with_formats(config: Config, store: Store, network: nn.Module, source: ModelSource, device: torch.device) -> Config:
    """Keep the formats that can be written, and make sure that the runtime can run the model."""
    shape = (source.in_channels, source.side_px, source.side_px)
    formats = formats_to_write(config, store, network, shape)
    require_runtime(config, store, network, shape, device)
    return config.model_copy(update={"export": ExportConfig(formats=formats)})


def _load(config: Config, store: Store, splits: Splits | None, model: nn.Module | None) -> tuple[Splits, Any]:
    """Load what was not handed over; the model says how its images must look, the data how many classes it needs."""
    chosen = config.model
    torch.manual_seed(config.seed)
    if splits is not None:
        return splits, load_model(chosen.name, chosen.args, chosen.num_classes or splits.train.num_classes, chosen.weights)
    if model is not None:
        return _load_splits(config, store, chosen.side_px), None
    probe = load_model(chosen.name, chosen.args, chosen.num_classes or 10)
    # A zoo's input side is meant for its own pictures; the CIFAR families take what the data have.
    splits = _load_splits(config, store, chosen.side_px or probe.side_px, probe.preprocess)
    torch.manual_seed(config.seed)
    return splits, load_model(chosen.name, chosen.args, chosen.num_classes or splits.train.num_classes, chosen.weights)


def _load_splits(config: Config, store: Store, side_px: int | None, preprocess: Preprocess | None = None) -> Splits:
    """Load the images, and remember which files could be read: a later opening checks only those that changed."""
    before = store.record("checked_images") or {}
    checked = dict(before)
    splits = load_splits(config.data, side_px=side_px, preprocess=preprocess, checked=checked)
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
    )


def _require_usable(config: Config, network: nn.Module, splits: Splits, source: ModelSource) -> None:
    """Say what would fail later, before anything is trained: weights, two blank images through the network, batches.

    Raises:
        ConfigError: The criterion cannot be found, or a recipe does not suit the images.
        UnsupportedModelError: The network holds NaN, fails, cannot be trained, or returns something else than logits.
        DataError: The train split does not fill a batch.
    """
    criterion_of(config.width.importance)
    check_finite(network, "the base model")
    network = network.cpu().eval()
    shape = (2, source.in_channels, source.side_px, source.side_px)
    try:
        with torch.no_grad():
            output = network(torch.zeros(shape))
    except Exception as error:  # a network of the user's own may raise anything
        reason = str(error).partition("\n")[0]
        raise UnsupportedModelError(
            f"The model must take images of shape {shape} and return logits, but it raised {type(error).__name__}: {reason}."
        ) from error
    check_output(output, 2, source.num_classes)
    require_trainable(network, shape, source.num_classes)
    for recipe in (config.collect.recipe, config.finetune):
        require_recipe(splits.train, recipe, "train")
