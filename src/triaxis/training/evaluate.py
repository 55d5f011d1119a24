"""What a network is worth on a split: its score, its loss, and the gradients of that loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from triaxis.data.images import Images
from triaxis.data.parts import batches_in_order, batches_of_epoch
from triaxis.process.convolutions import guarded
from triaxis.process.ranks import ALONE, Ranks
from triaxis.process.walltime import part
from triaxis.tasks import CLASSIFICATION, Placed, Score, Task, mapped
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe

USUAL_BATCH = 256

MOST_OUTPUTS = 2**25
"""Numbers in the outputs of one batch, where each pixel has some: 128 MiB, a few times over."""


@part("validation")
def evaluate(
    model: nn.Module,
    images: Images,
    side_px: int,
    device: torch.device,
    *,
    task: Task = CLASSIFICATION,
    limit: int | None = None,
    ranks: Ranks = ALONE,
) -> Score:
    """Evaluate in fp32, without augmentation; the model is left in evaluation mode.

    Several `ranks` look at whole batches each, and all return the score of all of them, the same as one process would.

    Raises:
        TrainingError: An output is NaN or infinite.
        UnsupportedModelError: The output is not the task's, such as (B, num_classes).
    """
    # Weights that were moved in inference mode could never be trained again.
    PLAIN.place(model, device).eval()
    observed = []
    number = batch_size(images, task)
    with torch.inference_mode():
        for batch in batches_in_order(images, side_px, number, ranks.rank, ranks.size, limit=limit):
            output = task.forward(model, batch.images.to(device, memory_format=torch.channels_last), batch.labels.to(device))
            task.check_output(output, len(batch.images), images.num_classes)
            observed.append(task.observe(mapped(output, Tensor.float), batch.labels))
    found = [one for part in ranks.gather(observed) for one in part]
    score = task.score(found) if ranks.leads else None
    plain: Any = ranks.share(None if score is None else [score.value, list(score.interval), score.loss, score.numbers])
    return score or Score(plain[0], (plain[1][0], plain[1][1]), plain[2], plain[3])


def batch_size(images: Images, task: Task) -> int:
    """Return how many images are looked at in one go: fewer where the outputs of each are many, as those of pixels are."""
    return max(4, min(USUAL_BATCH, MOST_OUTPUTS // (images.num_classes * images.side_px**2))) if isinstance(task, Placed) else USUAL_BATCH


def _plain(images: Images, task: Task) -> Recipe:
    """Large shuffled batches, not augmented."""
    return Recipe(batch_size=max(2, min(250, len(images), batch_size(images, task))), crop_px=0, flip=False)


@torch.no_grad()
def loss_with_batch_statistics(
    model: nn.Module,
    images: Images,
    side_px: int,
    device: torch.device,
    *,
    num_images: int,
    task: Task = CLASSIFICATION,
    ranks: Ranks = ALONE,
) -> float:
    """Return the mean loss with every batch norm normalising by the batch at hand.

    One pass where calibrating and then evaluating would take two; batches are large, so the two agree closely.
    """
    PLAIN.place(model, device).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    losses: list[list[float]] = []
    plain = _plain(images, task)
    for batch in batches_of_epoch(images, side_px, plain, ranks.rank, ranks.size, limit=max(num_images, plain.batch_size)):
        pictures, targets = batch.images.to(device, memory_format=torch.channels_last), batch.labels.to(device)
        output = mapped(task.forward(model, pictures, targets), Tensor.float)
        losses.append([task.loss(output, targets, plain).item() * len(pictures), len(pictures)])
    found = [one for part in ranks.gather(losses) for one in part]
    total, count = 0.0, 0.0
    for loss, number in ranks.share(found):
        total, count = total + loss, count + number
    return total / count


def loss_gradients(
    model: nn.Module,
    images: Images,
    side_px: int,
    device: torch.device,
    *,
    num_images: int,
    task: Task = CLASSIFICATION,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """Return the gradient of the loss, summed over batches, for every parameter by name, on the CPU; the model keeps none."""
    PLAIN.place(model, device).eval()
    plain = _plain(images, task)
    for batch in batches_of_epoch(images, side_px, plain, ranks.rank, ranks.size, limit=max(num_images, plain.batch_size)):
        pictures, targets = batch.images.to(device, memory_format=torch.channels_last), batch.labels.to(device)
        with guarded(model):
            task.loss(mapped(task.forward(model, pictures, targets), Tensor.float), targets, plain).backward()
    _add_gradients(model, ranks)
    gradients = {n: p.grad.detach().cpu() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return gradients


def _add_gradients(model: nn.Module, ranks: Ranks) -> None:
    """Put the sums over all ranks in place of the gradients; a rank without batches adds nothing."""
    if ranks.is_alone:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    there = [int(parameter.grad is not None) for parameter in trained]
    everywhere = ranks.share([any(column) for column in zip(*ranks.gather(there), strict=True)])
    some = [parameter for parameter, is_there in zip(trained, everywhere, strict=True) if is_there]
    for parameter in some:
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    ranks.add([parameter.grad for parameter in some if parameter.grad is not None])
