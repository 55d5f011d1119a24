"""Training and fine-tuning: one loop for the base model, the trials and the final model."""

from __future__ import annotations

import operator
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel

from triaxis.data.images import Batch, Images, hash_seed, require_batch, resize
from triaxis.errors import TrainingError
from triaxis.process.convolutions import guard, release
from triaxis.process.interrupt import Stop, postponed, requested
from triaxis.process.walltime import part
from triaxis.tasks import CLASSIFICATION, Output, Task, mapped
from triaxis.training.calibrate import calibrate
from triaxis.training.machine import Machine, Pace, is_out_of_memory
from triaxis.training.mode import Mode
from triaxis.training.randomness import random_state, seed_all, set_random_state, set_torch_state, torch_state
from triaxis.training.resume import discard_resume, read_resume, remove_resume
from triaxis.training.saving import Saving
from triaxis.training.teacher import Teacher
from triaxis.values import Recipe

OnStep = Callable[[int, int, Tensor], None]

SAVE_S = 600.0


@dataclass(frozen=True)
class TrainingLog:
    """What a training took: images trained on, seconds, mean loss of each epoch."""

    num_images: int
    seconds: float
    losses: tuple[float, ...]


@part("training")
def finetune(
    model: nn.Module,
    images: Images,
    recipe: Recipe,
    *,
    side_px: int,
    seed: int,
    device: torch.device,
    mode: Mode,
    teacher: Teacher | None = None,
    on_step: OnStep | None = None,
    resume_path: Path | None = None,
    calibrate_images: int = 1000,
    machine: Machine | None = None,
    save_s: float = SAVE_S,
    keep_state: bool = False,
    task: Task = CLASSIFICATION,
) -> TrainingLog:
    """Train `model` in place and leave it calibrated, in evaluation mode.

    The loss is (1 - a) L(z, y) + a D(z, t), where a is `recipe.distill`, z the network's output, t the teacher's, and L and D
    are the task's: for classification cross-entropy and T^2 KL(softmax(t / T) || softmax(z / T)) (Hinton et al. 2015).
    The rate follows one cycle; the weights of the last `recipe.average_last` of the steps are averaged.

    A batch that does not fit in memory is split into parts whose gradients add up to those of the whole; batch norm then sees
    one part at a time.

    Args:
        model: Network for (B, C, side_px, side_px) images.
        images: The train split.
        recipe: How to train.
        side_px: The side to train at.
        seed: Fixes the order, the augmentation and dropout.
        device: Where to train.
        mode: Precision and memory format.
        teacher: Source of soft labels; used if `recipe.distill` > 0.
        on_step: Called with (steps done, steps in all, the loss of the step, which may not be computed yet).
        resume_path: If given, the state is saved there after each epoch, unless that would take more than 1 % of the time, every
            `save_s` seconds, and when a signal asks the process to stop (`triaxis.process.interrupt`); it is found there at the next
            start, and removed at the end.
        calibrate_images: Train images for the batch-norm statistics at the end.
        machine: What the run has learnt about the machine; changed when the training learns more.
        save_s: Seconds between two saved states within an epoch.
        keep_state: Leave the state at the end too, for a caller who removes it once the result is stored.
        task: What is learnt.

    Raises:
        TrainingError: The loss became NaN or infinite, or even two images at a time do not fit in memory.
        DataError: The split does not fill a batch.
        StoreError: A state could not be written.
    """
    start = time.perf_counter()
    require_batch(len(images), recipe.batch_size, "train")
    if recipe.distill == 0 or not task.distils:
        teacher = None
    guards = guard(mode.place(model, device).train())
    loop = Loop(model, images, recipe, side_px, seed, device, mode, teacher, on_step, machine or Machine(), save_s, task)
    loop.run(resume_path, keep_state=keep_state)
    if recipe.epochs:
        loop.take_average()
        calibrate(model, images, side_px, device, recipe=recipe, num_images=calibrate_images)
    release(guards)
    model.eval()
    if resume_path is not None and not keep_state:
        remove_resume(resume_path)
    return TrainingLog(loop.num_steps * recipe.batch_size, time.perf_counter() - start, tuple(loop.losses))


@dataclass
class Loop:
    """The state of one training: model, optimiser, schedule and running average."""

    model: nn.Module
    images: Images
    recipe: Recipe
    side_px: int
    seed: int
    device: torch.device
    mode: Mode
    teacher: Teacher | None
    on_step: OnStep | None
    machine: Machine
    save_s: float
    task: Task

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.steps_per_epoch = len(self.images) // recipe.batch_size
        self.num_steps = self.steps_per_epoch * recipe.epochs
        self.first_averaged = self.num_steps - round(self.num_steps * recipe.average_last)
        self.step = 0
        self.losses: list[float] = []
        self.epoch_steps, self.epoch_loss = 0, torch.zeros((), device=self.device)
        self.random: dict[str, Any] | None = None
        self.shape = (self.recipe.batch_size, 3, self.side_px, self.side_px)
        self.saving = Saving(None)
        # Weakly: a loop that held itself would keep model and images until the collector comes.
        me = weakref.proxy(self)
        self.pace = Pace(lambda share: me._on_fall(share))
        self.optimizer = create_optimizer_v2(
            self.model, opt=recipe.optimizer, lr=recipe.peak_lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum
        )
        total = max(self.num_steps, 1) + 1
        # OneCycleLR divides by pct_start x total - 1.
        warmup = recipe.warmup if abs(recipe.warmup * total - 1) > 1e-6 else 1.5 / total
        self.schedule = OneCycleLR(self.optimizer, recipe.peak_lr, total_steps=total, pct_start=min(warmup, 1.0), cycle_momentum=False)
        self.average = AveragedModel(self.model) if self.first_averaged < self.num_steps else None
        self.transform = self.task.transform(recipe, self.images.num_classes)

    def run(self, path: Path | None, *, keep_state: bool = False) -> None:
        """Train all epochs that are left; the state is saved in a file, with `keep_state` after the last one too."""
        first = self.restore(path)
        with Saving(path) as self.saving:
            for epoch in range(first, self.recipe.epochs):
                bank = self.bank(epoch)
                with postponed():
                    self.run_epoch(epoch, bank)
                    is_last = epoch + 1 == self.recipe.epochs
                    if requested() or (self.saving.pays(self.save_s) and (keep_state or not is_last)):
                        self.save(epoch + 1)

    def run_epoch(self, epoch: int, bank: Output | None) -> None:
        seed_all(hash_seed(self.seed, epoch))
        self.model.train()
        source_px = self.teacher.side_px if self.teacher and bank is None else self.side_px
        batches = self.images.epoch(source_px, self.recipe, seed=self.seed, epoch=self.view(epoch), skip=self.epoch_steps)
        if self.epoch_steps and self.random is not None:
            set_random_state(self.random, self.device)
        self.pace.begin()
        for batch in self._until_stopped(batches, epoch):
            pictures, targets = batch.images.to(self.device), batch.labels.to(self.device)
            if self.transform is not None:
                pictures, targets = self.transform(pictures, targets)
            soft = None if bank is None else _rows(bank, batch.indices, self.device)
            self.epoch_loss += self._train_step(pictures, targets, soft)
        self.losses.append(self._check(self.epoch_loss / max(self.steps_per_epoch, 1)))
        self.epoch_steps, self.epoch_loss = 0, torch.zeros((), device=self.device)

    def _until_stopped(self, batches: Iterator[Batch], epoch: int) -> Iterator[Batch]:
        """Yield batches; between them save the state when it is time, or when a signal came, which ends the training."""
        while True:
            if requested():
                self.save(epoch)
                raise Stop
            self.saving.check()
            try:
                batch = next(batches, None)
            except RuntimeError:
                # A queue's signal goes to the loader's workers too, which die of it.
                if requested():
                    continue
                raise
            if batch is None:
                return
            yield batch
            self.epoch_steps += 1
            self.pace.step(len(batch.images))
            if self.saving.path and self.saving.age_s() >= self.save_s and self.epoch_steps < self.steps_per_epoch:
                self.save(epoch)
                self.pace.begin()

    def _on_fall(self, share: float) -> None:
        if self.machine.is_free:
            self.machine.look_again(self.model, self.shape, self.device, self.mode, share)

    def bank(self, epoch: int) -> Output | None:
        """The teacher's remembered outputs, where the epoch's pictures are fixed by (seed, epoch)."""
        if self.teacher is None or not self.teacher.remembers(self.images, self.recipe, self.task):
            return None
        return self.teacher.bank(self.images, self.recipe, seed=self.seed, epoch=self.view(epoch))

    def view(self, epoch: int) -> int:
        """The epoch whose pictures an epoch shows: here its own, so that pictures never repeat."""
        return epoch

    def student(self) -> tuple[Callable[[Tensor], object], int]:
        """What the next step trains, and its side."""
        return self.model, self.side_px

    def _train_step(self, pictures: Tensor, targets: Tensor, soft: Output | None) -> Tensor:
        before = torch_state(self.device)
        loss = self._try_gradients(pictures, targets, soft)
        while loss is None:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            # The failed attempt has drawn random numbers of torch's. It has touched running statistics too, which do not enter the
            # gradients, and are estimated anew when the training ends.
            set_torch_state(before, self.device)
            loss = self._try_gradients(pictures, targets, soft)
        if self.recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        if self.average is not None and self.step > self.first_averaged:
            self.average.update_parameters(self.model)
        if self.on_step:
            self.on_step(self.step, self.num_steps, loss)
        return loss

    def _try_gradients(self, pictures: Tensor, targets: Tensor, soft: Output | None) -> Tensor | None:
        """Return the loss of a batch, its gradients in place; or None if memory is too small and smaller parts can be tried."""
        try:
            return self._gradients(pictures, targets, soft)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if not self.machine.split_batch(len(pictures)):
                raise TrainingError(
                    f"Training needs memory for at least two images of {self.side_px} px at a time on {self.device}, but had too little: "
                    "take smaller pictures or a smaller model, or free memory."
                ) from error
        return None

    def _gradients(self, pictures: Tensor, targets: Tensor, soft: Output | None) -> Tensor:
        num_parts = min(self.machine.batch_parts, max(1, len(pictures) // 2))
        losses = []
        for n, indices in enumerate(torch.arange(len(pictures)).tensor_split(num_parts)):
            rows = slice(int(indices[0]), int(indices[-1]) + 1)
            loss = self._part_loss(pictures[rows], targets[rows], None if soft is None else mapped(soft, operator.itemgetter(rows)))
            if num_parts > 1:
                loss = loss * (len(indices) / len(pictures))
            if self.device.type == "cpu":
                self._check(loss)
            if n == 0:
                self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            losses.append(loss.detach())
        return losses[0] if num_parts == 1 else torch.stack(losses).sum()

    def _part_loss(self, pictures: Tensor, targets: Tensor, soft: Output | None) -> Tensor:
        """Return the loss of some images, which come at the teacher's side where `soft` is not known yet."""
        if self.teacher is not None and soft is None:
            soft = self.teacher.look(pictures)
        student, side_px = self.student()
        if pictures.shape[-1] != side_px:
            pictures = resize(pictures, side_px, self.images.preprocess.interpolation)
        self.shape = (len(pictures), pictures.shape[1], side_px, side_px)
        with self.mode.autocast(self.device):
            output = self.task.forward(cast(nn.Module, student), pictures.contiguous(memory_format=self.mode.torch_format), targets)
        if self.step == 0:
            self.task.check_output(output, len(pictures), self.images.num_classes)
        return self._loss(mapped(output, Tensor.float), targets, soft)

    def _loss(self, output: Output, targets: Tensor, soft: Output | None) -> Tensor:
        share, hard = self.recipe.distill, self.task.loss(output, targets, self.recipe)
        if soft is None:
            return hard
        return (1 - share) * hard + self.task.distillation(output, soft, temperature=self.recipe.temperature, weight=share)

    def _check(self, loss: Tensor) -> float:
        value = loss.item()
        if not np.isfinite(value):
            # The state that was saved last may hold the numbers that led here: the next attempt must not begin with them.
            self.saving.is_void = True
            raise TrainingError(
                f"The training loss must be finite, got {value} at step {self.step + 1} of {self.num_steps}: "
                "lower peak_lr, or check the data and the weights for NaN."
            )
        return value

    def take_average(self) -> None:
        """Put the averaged weights into the model."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())

    def save(self, epochs_done: int) -> None:
        """Save everything that the next steps depend on; it is durable at once where a signal asked the process to stop."""
        state = {
            "epochs_done": epochs_done,
            "step": self.step,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if isinstance(value, int | float | list)},
            "average": self.average.state_dict() if self.average else None,
            "place": self._place(),
        }
        self.saving.save(state, wait=requested())

    def restore(self, path: Path | None) -> int:
        """Return the first epoch to run: after those of the saved state, if there is one that is whole and fits."""
        state = None if path is None else read_resume(path)
        if path is None or state is None:
            return 0
        untrained = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.step, self.losses = state["step"], state["losses"]
            self._go_to(state.get("place"))
            return state["epochs_done"]
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            discard_resume(path, error)
        self.model.load_state_dict(untrained)
        self.__post_init__()
        return 0

    def _place(self) -> dict[str, Any]:
        """Return where in the epoch the training is, and what the steps that follow depend on beside weights and schedule."""
        return {
            "epoch_steps": self.epoch_steps,
            "epoch_loss": self.epoch_loss.cpu(),
            "random": random_state(self.device) if self.epoch_steps else None,
            "batch_parts": self.machine.batch_parts,
        }

    def _go_to(self, place: dict[str, Any] | None) -> None:
        """Take up a saved place; states of version 0.1 have none and lie between epochs."""
        if place is None:
            return
        self.epoch_steps, self.random = place["epoch_steps"], place["random"]
        self.epoch_loss = place["epoch_loss"].to(self.device)
        self.machine.batch_parts = max(self.machine.batch_parts, place["batch_parts"])


def _rows(bank: Output, indices: Tensor, device: torch.device) -> Output:
    return mapped(bank, lambda part: part[indices].to(device))
