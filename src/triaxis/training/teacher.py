"""The base model as a source of soft labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from triaxis.data.images import Images
from triaxis.process.walltime import part
from triaxis.tasks import CLASSIFICATION, Output, Task, mapped, tensors_in
from triaxis.training.mode import Mode
from triaxis.values import Recipe


class Teacher:
    """The base model as a source of soft labels, which remembers what it said.

    Where an epoch's pictures depend on (seed, epoch) alone, every trial sees the same ones and the base model need look at
    them only once: `logits` then answers from memory.
    """

    def __init__(self, model: nn.Module, side_px: int, device: torch.device, mode: Mode, task: Task = CLASSIFICATION) -> None:
        self.model = mode.place(model, device).eval()
        self.side_px, self.device, self.mode, self.task = side_px, device, mode, task
        self.num_seen = 0
        self._bank: dict[tuple[object, ...], Output] = {}

    @part("teacher")
    @torch.no_grad()
    def look(self, pictures: Tensor) -> Output:
        """Return the base model's output, such as logits (B, K), in float32, of normalised pictures (B, C, S, S) at the base side."""
        self.num_seen += len(pictures)
        with self.mode.autocast(self.device):
            output = self.task.forward(self.model, pictures.to(self.device, memory_format=self.mode.torch_format))
        return mapped(output, Tensor.float)

    @staticmethod
    def remembers(images: Images, recipe: Recipe, task: Task = CLASSIFICATION) -> bool:
        """Whether an epoch's pictures depend on (seed, epoch) alone, so that one look at them serves every trial."""
        return task.is_remembered and images.is_resident and not recipe.randaugment and recipe.mixup == recipe.cutmix == 0

    @part("teacher")
    def bank(self, images: Images, recipe: Recipe, *, seed: int, epoch: int) -> Output:
        """Return the outputs, such as logits (N, K), of one epoch's pictures, in the split's order, computed at the first call."""
        key = (seed, epoch, recipe.batch_size, recipe.crop_px, recipe.flip)
        if key not in self._bank:
            self._bank[key] = self._filled(images, recipe, seed, epoch)
        return self._bank[key]

    def _filled(self, images: Images, recipe: Recipe, seed: int, epoch: int) -> Output:
        table: Any = None
        for batch in images.epoch(self.side_px, recipe, seed=seed, epoch=epoch):
            output = mapped(self.look(batch.images), Tensor.cpu)
            if table is None:
                table = mapped(output, lambda part: torch.zeros(len(images), *part.shape[1:]))
            for rows, found in zip(tensors_in(table), tensors_in(output), strict=True):
                rows[batch.indices] = found
        return table
