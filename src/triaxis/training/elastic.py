"""Elastic training: every step trains one cut of weights that all cuts share, taught by the base model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from triaxis.data.images import Images, require_batch
from triaxis.process.walltime import part
from triaxis.surgery.shared import SharedWeights
from triaxis.tasks import CLASSIFICATION, Task
from triaxis.training.loop import SAVE_S, Loop, OnStep, TrainingLog
from triaxis.training.machine import Machine
from triaxis.training.mode import Mode
from triaxis.training.resume import remove_resume
from triaxis.training.teacher import Teacher
from triaxis.values import PrunePlan, Recipe


@part("training")
def train_elastic(
    shared: SharedWeights,
    images: Images,
    recipe: Recipe,
    plan_at: Callable[[int], PrunePlan],
    *,
    views: int,
    seed: int,
    device: torch.device,
    mode: Mode,
    teacher: Teacher | None = None,
    on_step: OnStep | None = None,
    resume_path: Path | None = None,
    machine: Machine | None = None,
    save_s: float = SAVE_S,
    keep_state: bool = False,
    task: Task = CLASSIFICATION,
) -> TrainingLog:
    """Train shared weights in place; batch-norm statistics are left as they were, for each cut has its own.

    Args:
        shared: The weights.
        images: The train split.
        recipe: How to train; the schedule, the loss and the averaging are those of `finetune`.
        plan_at: The cut that a step trains, by the step's number from 0; the same at each call.
        views: Epochs after which the augmented pictures repeat, so that the teacher looks at each once; 0 is never.
        seed: Fixes order and augmentation.
        device: Where to train.
        mode: Precision and memory format.
        teacher: Source of soft labels; used if `recipe.distill` > 0.
        on_step: As for `finetune`.
        resume_path: As for `finetune`.
        machine: As for `finetune`.
        save_s: As for `finetune`.
        keep_state: As for `finetune`.
        task: What the cuts are trained for.

    Raises:
        TrainingError: The loss became NaN or infinite, or even two images at a time do not fit in memory.
        DataError: The split does not fill a batch.
    """
    start = time.perf_counter()
    require_batch(len(images), recipe.batch_size, "train")
    taught = teacher if recipe.distill > 0 and task.distils else None
    side_px, machine = shared.surgeon.anatomy.base_side_px, machine or Machine()
    loop = ElasticLoop(
        shared.model, images, recipe, side_px, seed, device, mode, taught, on_step, machine, save_s, task, shared, plan_at, views
    )
    loop.run(resume_path, keep_state=keep_state)
    loop.take_average()
    shared.model.eval()
    if resume_path is not None and not keep_state:
        remove_resume(resume_path)
    return TrainingLog(loop.num_steps * recipe.batch_size, time.perf_counter() - start, tuple(loop.losses))


@dataclass
class ElasticLoop(Loop):
    """The loop of `finetune` with another cut of the shared weights at each step."""

    shared: SharedWeights
    plan_at: Callable[[int], PrunePlan]
    views: int

    def view(self, epoch: int) -> int:
        """The epoch whose pictures an epoch shows: after `views` epochs they repeat."""
        return epoch % self.views if self.views else epoch

    def student(self) -> tuple[Callable[[Tensor], object], int]:
        """The step's cut, and its side."""
        plan = self.plan_at(self.step)
        return self.shared.cut(plan), plan.side_px
