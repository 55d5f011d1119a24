"""What a network is worth on a split: its score, its loss, and the gradients of that loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triaxis.data.images import Images
from triaxis.process.convolutions import guarded
from triaxis.process.walltime import part
from triaxis.tasks import CLASSIFICATION, Placed, Score, Task, mapped
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe

USUAL_BATCH = 256

MOST_OUTPUTS = 2**25
"""Numbers in the outputs of one batch, where each pixel has some: 128 MiB, a few times over."""


@part("validation")
@torch.inference_mode()
def evaluate(
    model: nn.Module, images: Images, side_px: int, device: torch.device, *, task: Task = CLASSIFICATION, limit: int | None = None
) -> Score:
    """Evaluate in fp32, without augmentation; the model is left in evaluation mode.

    Raises:
        TrainingError: An output is NaN or infinite.
        UnsupportedModelError: The output is not the task's, such as (B, num_classes).
    """
    model.eval()
    PLAIN.place(model, device)
    observed = []
    for batch in images.in_order(side_px, batch_size=batch_size(images, task), limit=limit):
        targets = batch.labels.to(device)
        output = task.forward(model, batch.images.to(device, memory_format=torch.channels_last), targets)
        task.check_output(output, len(batch.images), images.num_classes)
        observed.append(task.observe(mapped(output, Tensor.float), batch.labels))
    return task.score(observed)


def batch_size(images: Images, task: Task) -> int:
    """Return how many images are looked at in one go: fewer where the outputs of each are many, as those of pixels are."""
    return max(4, min(USUAL_BATCH, MOST_OUTPUTS // (images.num_classes * images.side_px**2))) if isinstance(task, Placed) else USUAL_BATCH


def _plain(images: Images, task: Task) -> Recipe:
    """Large shuffled batches, not augmented."""
    return Recipe(batch_size=max(2, min(250, len(images), batch_size(images, task))), crop_px=0, flip=False)


@torch.no_grad()
def loss_with_batch_statistics(
    model: nn.Module, images: Images, side_px: int, device: torch.device, *, num_images: int, task: Task = CLASSIFICATION
) -> float:
    """Return the mean loss with every batch norm normalising by the batch at hand.

    One pass where calibrating and then evaluating would take two; batches are large, so the two agree closely.
    """
    PLAIN.place(model, device).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    total, count = 0.0, 0
    plain = _plain(images, task)
    for batch in images.epoch(side_px, plain, seed=0, epoch=0, limit=max(num_images, plain.batch_size)):
        pictures, targets = batch.images.to(device, memory_format=torch.channels_last), batch.labels.to(device)
        output = mapped(task.forward(model, pictures, targets), Tensor.float)
        total += task.loss(output, targets, plain).item() * len(pictures)
        count += len(pictures)
    return total / count


def loss_gradients(
    model: nn.Module, images: Images, side_px: int, device: torch.device, *, num_images: int, task: Task = CLASSIFICATION
) -> dict[str, Tensor]:
    """Return the gradient of the loss, summed over batches, for every parameter by name, on the CPU; the model keeps none."""
    PLAIN.place(model, device).eval()
    plain = _plain(images, task)
    for batch in images.epoch(side_px, plain, seed=0, epoch=0, limit=max(num_images, plain.batch_size)):
        pictures, targets = batch.images.to(device, memory_format=torch.channels_last), batch.labels.to(device)
        with guarded(model):
            task.loss(mapped(task.forward(model, pictures, targets), Tensor.float), targets, plain).backward()
    gradients = {n: p.grad.detach().cpu() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return gradients
