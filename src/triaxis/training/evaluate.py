"""What a network is worth on a split: its score, its loss, and the gradients of that loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triaxis.data.images import Images
from triaxis.errors import TrainingError, UnsupportedModelError
from triaxis.process.walltime import part
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` and `balanced_accuracy` (mean of the classes' recalls) in [0, 1], mean cross-entropy `loss`, `logits` (N, K).

    `num_right` and `num_images` are the counts behind the recalls, for each of the K classes.
    """

    accuracy: float
    balanced_accuracy: float
    loss: float
    logits: Tensor
    num_right: tuple[int, ...] = ()
    num_images: tuple[int, ...] = ()


@part("validation")
@torch.inference_mode()
def evaluate(model: nn.Module, images: Images, side_px: int, device: torch.device, *, limit: int | None = None) -> Evaluation:
    """Evaluate in fp32, without augmentation; the model is left in evaluation mode.

    Raises:
        TrainingError: An output is NaN or infinite.
        UnsupportedModelError: The output is not (B, num_classes).
    """
    model.eval()
    PLAIN.place(model, device)
    logits, labels = [], []
    for batch in images.in_order(side_px, limit=limit):
        output = model(batch.images.to(device, memory_format=torch.channels_last))
        check_output(output, len(batch.images), images.num_classes)
        logits.append(output.float().cpu())
        labels.append(batch.labels.cpu())
    return _score(torch.cat(logits), torch.cat(labels))


def _score(logits: Tensor, labels: Tensor) -> Evaluation:
    if not bool(torch.isfinite(logits).all()):
        raise TrainingError("The model's outputs must be finite, got NaN or infinity: check its weights, or lower peak_lr.")
    right = (logits.argmax(1) == labels).double()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    hits = torch.bincount(labels, weights=right, minlength=logits.shape[1])
    recalls = hits[counts > 0] / counts[counts > 0]
    loss = F.cross_entropy(logits.double(), labels)
    per_class = tuple(int(n) for n in hits.tolist()), tuple(counts.tolist())
    return Evaluation(right.mean().item(), recalls.mean().item(), loss.item(), logits, *per_class)


def check_output(output: object, batch: int, num_classes: int) -> None:
    """Check that a model's output is (batch, num_classes).

    Raises:
        UnsupportedModelError: It is not.
    """
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (batch, num_classes):
        raise UnsupportedModelError(
            f"The model's output must be ({batch}, {num_classes}), one logit for each class of the data, got {shape}: "
            "set model.num_classes to the data's number of classes, or adapt the classifier."
        )


def _plain(images: Images) -> Recipe:
    """Large shuffled batches, not augmented."""
    return Recipe(batch_size=max(2, min(250, len(images))), crop_px=0, flip=False)


@torch.no_grad()
def loss_with_batch_statistics(model: nn.Module, images: Images, side_px: int, device: torch.device, *, num_images: int) -> float:
    """Return the mean cross-entropy with every batch norm normalising by the batch at hand.

    One pass where calibrating and then evaluating would take two; batches are large, so the two agree closely.
    """
    PLAIN.place(model, device).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    total, count = 0.0, 0
    plain = _plain(images)
    for batch in images.epoch(side_px, plain, seed=0, epoch=0, limit=max(num_images, plain.batch_size)):
        output = model(batch.images.to(device, memory_format=torch.channels_last)).float()
        total += F.cross_entropy(output, batch.labels.to(device), reduction="sum").item()
        count += len(batch.images)
    return total / count


def loss_gradients(model: nn.Module, images: Images, side_px: int, device: torch.device, *, num_images: int) -> dict[str, Tensor]:
    """Return the gradient of the cross-entropy, summed over batches, for every parameter by name, on the CPU; the model keeps none."""
    PLAIN.place(model, device).eval()
    plain = _plain(images)
    for batch in images.epoch(side_px, plain, seed=0, epoch=0, limit=max(num_images, plain.batch_size)):
        output = model(batch.images.to(device, memory_format=torch.channels_last)).float()
        F.cross_entropy(output, batch.labels.to(device)).backward()
    gradients = {n: p.grad.detach().cpu() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return gradients
