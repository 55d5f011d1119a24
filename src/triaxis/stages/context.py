"""What the stages that touch the network are given: each takes the contexts that it uses, and no more.

    Run      where it is kept and how it is told: configuration, store, directory, progress
    Data     the images
    Base     the base model, and how it can be cut
    Trainer  how a network is trained and measured on this machine

`triaxis.stages.base.open_run` makes all four.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from triaxis.config import Config
from triaxis.data.images import Images, Splits
from triaxis.metrics.gauge import Gauge
from triaxis.models.zoos import ModelSource
from triaxis.progress import Advance, Meter, Progress, Tell
from triaxis.stages.timing import timed
from triaxis.store.base import Store
from triaxis.store.directory import RunDirectory
from triaxis.surgery.surgeon import Surgeon
from triaxis.tasks import CLASSIFICATION, Score, Task
from triaxis.training.evaluate import evaluate, loss_gradients, loss_with_batch_statistics
from triaxis.training.loop import TrainingLog, finetune
from triaxis.training.machine import Machine, num_threads
from triaxis.training.mode import Mode
from triaxis.training.resume import remove_resume
from triaxis.training.teacher import Teacher
from triaxis.values import Recipe


@dataclass(frozen=True)
class Run:
    """A run's own things: what was asked for, where its records and files go, who hears how far it is."""

    config: Config
    store: Store
    directory: RunDirectory
    progress: Progress

    @contextmanager
    def timed(self, stage: str) -> Iterator[Advance]:
        """Show a stage and add its seconds to the record."""
        with timed(self.store, self.progress, stage) as advance:
            yield advance


@dataclass(frozen=True)
class Data:
    """The images of a run; `digest` identifies those of train and val.

    `is_named` says whether the configuration's data section tells where they are, so that another process can open them too.
    """

    splits: Splits
    digest: str
    is_named: bool = False


@dataclass(frozen=True)
class Base:
    """The base model: how to make it again, how it can be cut, and a digest of its weights.

    `losses` are those of the base model without some of its blocks, as `choose_blocks` measured them in this process, and `gauges`
    measure cuts beside it by metric; other processes are sent none.
    """

    source: ModelSource
    surgeon: Surgeon
    digest: str
    losses: dict[tuple[str, ...], float] = field(default_factory=dict)
    gauges: dict[str, Gauge] = field(default_factory=dict)

    @property
    def side_px(self) -> int:
        """The base model's side."""
        return self.source.side_px

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, S, S) of the base model."""
        return self.shape_at(self.side_px)

    def shape_at(self, side_px: int) -> tuple[int, int, int]:
        """Return (C, S, S) of a cut at another side."""
        return (self.source.in_channels, side_px, side_px)


@dataclass(frozen=True)
class Trainer:
    """How networks are trained and evaluated in this run; the teacher is None until the base model is trained.

    `folder` keeps the states of trainings that were cut off, each as ``NAME.resume``.
    """

    device: torch.device
    mode: Mode
    folder: Path
    task: Task = CLASSIFICATION
    machine: Machine = field(default_factory=Machine)
    teacher: Teacher | None = None
    calibrate_images: int = 1000
    save_s: float = 600.0

    def finetune(
        self, model: nn.Module, images: Images, recipe: Recipe, *, side_px: int, seed: int, name: str, advance: Tell | None = None
    ) -> TrainingLog:
        """Train a network in place, taught by the base model where the recipe says so; cut off, the same `name` goes on.

        The state stays after the last step too, until `forget` is called: killed before the result is stored, nothing is trained again.

        Args:
            model: The network.
            images: The train split.
            recipe: How to train.
            side_px: The side to train at.
            seed: Fixes the order, the augmentation and dropout.
            name: Of the file that keeps the state between epochs.
            advance: Told the share that is done, the epoch, the loss and the speed.
        """
        return finetune(
            model,
            images,
            recipe,
            side_px=side_px,
            seed=seed,
            device=self.device,
            mode=self.mode,
            teacher=self.teacher,
            on_step=Meter(advance, epochs=recipe.epochs, batch_size=recipe.batch_size) if advance else None,
            resume_path=self.resume_file(name),
            calibrate_images=self.calibrate_images,
            machine=self.machine,
            save_s=self.save_s,
            keep_state=True,
            task=self.task,
        )

    def resume_file(self, name: str) -> Path:
        """Return the file that keeps the state of a training."""
        return self.folder / f"{name}.resume"

    def forget(self, name: str) -> None:
        """Remove the state of a training whose result is stored.

        Raises:
            StoreError: It cannot be removed.
        """
        remove_resume(self.resume_file(name))

    def evaluate(self, model: nn.Module, images: Images, side_px: int) -> Score:
        """Return what a network is worth on a split, in fp32, without augmentation."""
        return evaluate(model, images, side_px, self.device, task=self.task)

    def quick_loss(self, model: nn.Module, images: Images, side_px: int, num_images: int) -> float:
        """Return the mean loss on some images; every batch norm normalises by the batch at hand."""
        return loss_with_batch_statistics(model, images, side_px, self.device, num_images=num_images, task=self.task)

    def loss_gradients(self, model: nn.Module, images: Images, side_px: int, num_images: int) -> dict[str, Tensor]:
        """Return the gradient of the loss on some images for every parameter by name, on the CPU."""
        return loss_gradients(model, images, side_px, self.device, num_images=num_images, task=self.task)

    def remembers(self, images: Images, recipe: Recipe) -> bool:
        """Whether one look of the teacher at an epoch's pictures serves every trial."""
        return Teacher.remembers(images, recipe, self.task)

    def measuring(self) -> AbstractContextManager[None]:
        """Work on the threads that latency is measured on: all that the run may use, however few training takes."""
        return num_threads(self.machine.most)


class Opened(NamedTuple):
    """The contexts of a run that is open."""

    run: Run
    data: Data
    base: Base
    trainer: Trainer
