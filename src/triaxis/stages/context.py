"""What the stages that touch the network share: the data, the base model and how to cut it, the device."""

from __future__ import annotations

import copy
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.config import BASE_RECIPE, Config, ExportConfig
from triaxis.data.images import Preprocess, Splits, require_recipe
from triaxis.data.sources import load_splits
from triaxis.errors import ConfigError, StoreError, UnsupportedModelError
from triaxis.metrics.latency import device_name
from triaxis.metrics.macs import count_macs, count_params
from triaxis.models.load import ModelSource, check_finite, load_model, unwrap
from triaxis.progress import Advance, Progress, Silent
from triaxis.stages.identity import base_resume, identity_of_run, require_the_same
from triaxis.stages.readiness import formats_to_write, require_packages, require_runtime, require_trainable
from triaxis.store.base import Store
from triaxis.store.checkpoints import REMEDY, load_into, save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.surgery.criteria import criterion_of
from triaxis.surgery.plain import check_plain, trainable
from triaxis.surgery.surgeon import Surgeon
from triaxis.training.evaluate import Evaluation, Teacher, check_output, evaluate
from triaxis.training.loop import TrainingLog, finetune
from triaxis.training.mode import Mode, choose_mode
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
        self, model: nn.Module, plan: PrunePlan, recipe: Recipe, *, seed: int, name: str, advance: Callable[[float], None] | None = None
    ) -> TrainingLog:
        """Fine-tune a cut model in place at its plan's side, taught by the base model; cut off, the same `name` goes on.

        Args:
            model: Cut by `plan`.
            plan: Says the side.
            recipe: How to train.
            seed: Fixes the order, the augmentation and dropout.
            name: Of the file that keeps the state between epochs.
            advance: Told the share that is done.
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
            on_step=(lambda step, steps: advance(step / steps)) if advance else None,
            resume_path=self.run.checkpoints / f"{name}.resume",
            calibrate_images=self.config.collect.calibrate_images,
        )

    @contextmanager
    def timed(self, stage: str) -> Iterator[Advance]:
        """Show a stage and add its seconds to the record."""
        start = time.perf_counter()
        with self.progress.stage(stage) as advance:
            yield advance
        add_seconds(self.store, stage, time.perf_counter() - start)


def add_seconds(store: Store, stage: str, seconds: float) -> None:
    """Add to the time that a stage has taken, over all the processes that worked on it."""
    record = store.record("seconds") or {}
    store.put_record("seconds", {**record, stage: record.get(stage, 0.0) + seconds})


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
    start = time.perf_counter()
    with progress.stage("load") as advance:
        advance(0.0, "data and model")
        loaded = None
        if splits is None or model is None:
            splits, loaded = _load(config, store, splits, model)
        network = _own_copy(model) if model is not None else trainable(loaded.model)  # type: ignore[union-attr]
        source = _source(config, splits, named=model is None)
        _require_usable(config, network, splits, source)
        config = _with_formats(config, store, network, source, device)
    add_seconds(store, "load", time.perf_counter() - start)
    mode = _mode(config, store, network, source, device)
    trained = model is not None or (loaded is not None and loaded.is_trained)
    _train_base(config, run, store, network, splits, source, device, mode, progress, trained)
    surgeon = Surgeon.examine(
        network,
        side_px=source.side_px,
        in_channels=source.in_channels,
        round_to=config.width.round_to,
        min_width=config.collect.min_width,
        min_resolution=config.collect.min_resolution,
    )
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


def state_digest(state: dict[str, Tensor]) -> str:
    """Return 16 hexadecimal characters over the names and values of a state dict."""
    seal = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        seal.update(name.encode())
        seal.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return seal.hexdigest()[:16]


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
        ConfigError: The criterion cannot be found.
        UnsupportedModelError: The network holds NaN, fails, cannot be trained, or returns something else than logits.
        DataError: The train split does not fill a batch.
        ConfigError: A recipe does not suit the images.
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


def _mode(config: Config, store: Store, network: nn.Module, source: ModelSource, device: torch.device) -> Mode:
    """Choose precision and memory format once per run: timing twice could choose differently and change the numbers."""
    record = store.record("environment")
    if record is None:
        batch = (min(config.base.batch_size, 64), source.in_channels, source.side_px, source.side_px)
        mode, seconds = choose_mode(network, batch, device, precision=config.precision)
        record = {
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "mode": mode.to_json(),
            "mode_seconds": seconds,
            "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "triaxis")},
        }
        store.put_record("environment", record)
    return Mode.from_json(record["mode"])


def _require_same_base(run: RunDirectory, store: Store, network: nn.Module) -> None:
    """Trials know the base model that they were cut from: another one in its place would have them all measured again.

    Raises:
        StoreError: The base model's checkpoint is not the one that the trials began with.
    """
    known = {trial.spec.base_digest for trial in store.trials()}
    if known and state_digest(network.state_dict()) not in known:
        raise StoreError(f"{run.checkpoint('base')} must hold the base model of this run's trials, but its weights are others: {REMEDY}.")


def _train_base(
    config: Config,
    run: RunDirectory,
    store: Store,
    network: nn.Module,
    splits: Splits,
    source: ModelSource,
    device: torch.device,
    mode: Mode,
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
    start, num_images = time.perf_counter(), 0
    with progress.stage("base") as advance:
        if not is_trained:
            done = finetune(
                network,
                splits.train,
                config.base,
                side_px=source.side_px,
                seed=config.seed,
                device=device,
                mode=mode,
                on_step=lambda step, steps: advance(step / steps, "training the base model"),
                resume_path=base_resume(run),
                calibrate_images=config.collect.calibrate_images,
            )
            num_images = done.num_images
        elif config.base != BASE_RECIPE:
            log.warning("the settings under base have no effect: the base model is trained already")
        found = evaluate(network, splits.val, source.side_px, device)
        advance(1.0, f"val accuracy {found.accuracy:.4f}")
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
    add_seconds(store, "base", time.perf_counter() - start)
    log.info("base model: val accuracy %.4f, %d MACs", found.accuracy, macs)
