"""The base model as a source of soft labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triaxis.data.images import Images
from triaxis.process.walltime import part
from triaxis.training.mode import Mode
from triaxis.values import Recipe


class Teacher:
    """The base model as a source of soft labels, which remembers what it said.

    Where an epoch's pictures depend on (seed, epoch) alone, every trial sees the same ones and the base model need look at
    them only once: `logits` then answers from memory.
    """

    def __init__(self, model: nn.Module, side_px: int, device: torch.device, mode: Mode) -> None:
        self.model = mode.place(model, device).eval()
        self.side_px, self.device, self.mode = side_px, device, mode
        self.num_seen = 0
        self._bank: dict[tuple[object, ...], Tensor] = {}

    @part("teacher")
    @torch.no_grad()
    def look(self, pictures: Tensor) -> Tensor:
        """Return the base model's logits (B, K), float32, of normalised pictures (B, C, S, S) at the base side."""
        self.num_seen += len(pictures)
        with self.mode.autocast(self.device):
            return self.model(pictures.to(self.device, memory_format=self.mode.torch_format)).float()

    @staticmethod
    def remembers(images: Images, recipe: Recipe) -> bool:
        """Whether an epoch's pictures depend on (seed, epoch) alone, so that one look at them serves every trial."""
        return images.is_resident and not recipe.randaugment and recipe.mixup == recipe.cutmix == 0

    @part("teacher")
    def bank(self, images: Images, recipe: Recipe, *, seed: int, epoch: int) -> Tensor:
        """Return the logits (N, K) of one epoch's pictures, in the split's order, computed at the first call."""
        key = (seed, epoch, recipe.batch_size, recipe.crop_px, recipe.flip)
        if key not in self._bank:
            table = torch.zeros(len(images), images.num_classes)
            for batch in images.epoch(self.side_px, recipe, seed=seed, epoch=epoch):
                table[batch.indices] = self.look(batch.images).cpu()
            self._bank[key] = table
        return self._bank[key]
