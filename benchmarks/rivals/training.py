"""What every arm's training shares: its place in the run, its effort, the library's own loop."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rivals.profiles import AT, PAID, Profile, read_budget
from triaxis.metrics.macs import count_macs
from triaxis.stages.context import Opened
from triaxis.training.loop import OnStep, TrainingLog, finetune
from triaxis.values import BudgetSpec, Recipe


@dataclass(frozen=True)
class Case:
    """One arm at one budget, such as ``macs=25%``, in one seed's run."""

    opened: Opened
    profile: Profile
    budget_text: str
    arm: str

    @property
    def budget(self) -> BudgetSpec:
        """The budget, read."""
        return read_budget(self.budget_text)

    @property
    def method(self) -> str:
        """The arm's name without what was added to its effort, and without its peak rate."""
        return self.arm.removesuffix(PAID).partition(AT)[0]

    @property
    def recipe(self) -> Recipe:
        """The configured fine-tune, at the arm's own peak rate where its name holds one, as in ``equal_split@0.2``."""
        tuned, rate = self.opened.run.config.finetune, self.arm.partition(AT)[2]
        return dataclasses.replace(tuned, peak_lr=float(rate)) if rate else tuned

    @property
    def key(self) -> str:
        """The arm's name in the store."""
        return f"{self.budget_text}:{self.arm}"

    def checkpoint(self, stage: str) -> Path:
        """Return the file of the arm's weights after a stage."""
        return self.opened.run.directory.checkpoint(f"{stage}-{re.sub(r'[^A-Za-z0-9]+', '_', self.key)}")

    def record(self, arm: str) -> dict[str, Any]:
        """Return the record of an arm at the same budget, empty if it has none."""
        return self.opened.run.store.record(f"arm:{self.budget_text}:{arm}") or {}

    @property
    def base_record(self) -> dict[str, Any]:
        """The run's record of the base model."""
        return self.opened.run.store.record("base")

    @property
    def effort(self) -> float:
        """What the arm's training may take, in images x MACs of the network that is trained: the same for all arms of a budget.

        A network exactly at the budget gets the epochs of the configured fine-tune, a cheaper one as many more. Teacher's
        passes are not counted: one pass over the pictures serves all arms.
        """
        share = (self.budget.fraction or 1.0) * self.base_record["macs"]
        paid = self.opened.run.store.record("collection")["train_macs"] if self.arm.endswith(PAID) else 0.0
        return self.opened.run.config.finetune.epochs * self.images_per_epoch * share + paid

    @property
    def images_per_epoch(self) -> int:
        """Images of the whole batches of one epoch."""
        batch = self.opened.run.config.finetune.batch_size
        return len(self.opened.data.splits.train) // batch * batch

    def epochs(self, effort: float, macs: float) -> int:
        """Return the whole epochs that an effort pays for, at least one."""
        return max(1, round(effort / (self.images_per_epoch * macs)))

    def macs(self, model: nn.Module, side_px: int) -> int:
        """Return the multiply-accumulates of one image."""
        return count_macs(model, (self.opened.base.source.in_channels, side_px, side_px))


def train(case: Case, model: nn.Module, recipe: Recipe, side_px: int, stage: str, on_step: OnStep | None = None) -> TrainingLog:
    """Train in place with the run's data, seed, teacher, device and mode; a stopped training goes on after its last epoch."""
    opened = case.opened
    if case.profile.compile:
        model.compile()
    try:
        return finetune(
            model,
            opened.data.splits.train,
            recipe,
            side_px=side_px,
            seed=opened.run.config.seed,
            device=opened.trainer.device,
            mode=opened.trainer.mode,
            teacher=opened.trainer.teacher,
            on_step=on_step,
            resume_path=case.checkpoint(stage).with_suffix(".resume"),
            calibrate_images=opened.run.config.collect.calibrate_images,
        )
    finally:
        model._compiled_call_impl = None


@torch.no_grad()
def reinitialise(model: nn.Module, seed: int) -> None:
    """Give every layer new random weights: PyTorch's own, but He's for convolutions, as the CIFAR families start."""
    torch.manual_seed(seed)
    for module in model.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
