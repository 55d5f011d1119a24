"""Batch-norm statistics, estimated anew after surgery."""

from __future__ import annotations

import torch
from torch import nn

from triaxis.data.images import Images
from triaxis.data.parts import batches_of_epoch
from triaxis.process.ranks import ALONE, Ranks
from triaxis.process.walltime import part
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe


@part("calibration")
@torch.no_grad()
def calibrate(
    model: nn.Module,
    images: Images,
    side_px: int,
    device: torch.device,
    *,
    recipe: Recipe,
    num_images: int = 1000,
    ranks: Ranks = ALONE,
) -> None:
    """Re-estimate the running statistics of every batch norm as plain means over `num_images` images.

    Only batch norms are put in training mode, so that dropout and stochastic depth stay off. The images are cropped and
    flipped as `recipe` says: statistics of other pictures than those trained on cost accuracy. Several `ranks` look at whole batches
    each, and all have the statistics of all of them in the end.
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
    for batch in batches_of_epoch(images, side_px, alike, ranks.rank, ranks.size, limit=max(num_images, alike.batch_size)):
        model(batch.images.to(device, memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    _combine(norms, ranks)


def _combine(norms: list[nn.modules.batchnorm._BatchNorm], ranks: Ranks) -> None:
    """Put the means over the batches of all ranks in place of each rank's own."""
    if ranks.is_alone:
        return
    ranks.agree("calibration")
    sums = []
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        count = norm.num_batches_tracked.to(norm.running_mean)
        sums += [norm.running_mean * count, norm.running_var * count, count.reshape(1)]
    ranks.add(sums)
    for norm, mean, var, count in zip(norms, sums[::3], sums[1::3], sums[2::3], strict=True):
        # A norm that no picture went through keeps what it was reset to.
        if count > 0:
            norm.running_mean.copy_(mean / count)  # type: ignore[union-attr]
            norm.running_var.copy_(var / count)  # type: ignore[union-attr]
            norm.num_batches_tracked.fill_(int(count))  # type: ignore[union-attr]
