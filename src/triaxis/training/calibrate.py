"""Batch-norm statistics, estimated anew after surgery."""

from __future__ import annotations

import torch
from torch import nn

from triaxis.data.images import Images
from triaxis.process.walltime import part
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe


@part("calibration")
@torch.no_grad()
def calibrate(model: nn.Module, images: Images, side_px: int, device: torch.device, *, recipe: Recipe, num_images: int = 1000) -> None:
    """Re-estimate the running statistics of every batch norm as plain means over `num_images` images.

    Only batch norms are put in training mode, so that dropout and stochastic depth stay off. The images are cropped and
    flipped as `recipe` says: statistics of other pictures than those trained on cost accuracy.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    model.eval()
    PLAIN.place(model, device)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    alike = Recipe(batch_size=max(2, min(200, num_images, len(images))), crop_px=recipe.crop_px, flip=recipe.flip)
    for batch in images.epoch(side_px, alike, seed=0, epoch=0, limit=max(num_images, alike.batch_size)):
        model(batch.images.to(device, memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
