"""Segmentation: one class for each pixel, by the mean over classes of intersection over union."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from triaxis.errors import ConfigError, DataError, TrainingError, UnsupportedModelError
from triaxis.maths import interval
from triaxis.tasks.base import Score, Transform
from triaxis.tasks.outputs import main_output, named_tensors
from triaxis.tasks.window import Window
from triaxis.values import Recipe

MAIN, AUX = "out", "aux"


class Segmentation:
    """Outputs (B, K, h, w) logits of any side, targets (N, S, S) whole class numbers at the side of the data.

    Logits are brought to the side of the masks, bilinear, before they are compared. The loss is the cross-entropy, a mean over the
    pixels of an image and then over images, plus `dice` times the Dice loss, plus `aux` times the cross-entropy of an auxiliary head.
    The distillation is T^2 KL(softmax(t / T) || softmax(z / T)), a mean over pixels. The score is the mean, over the classes that
    occur in the split, of intersection over union, both summed over the images.

    Args:
        ignore_index: Pixels of this number count nowhere.
        dice: Weight of the Dice loss.
        aux: Weight of what the model returns beside its main output when it is trained, where that is logits of pixels too.
    """

    name = "segmentation"
    is_remembered = False
    distils = True

    def __init__(self, ignore_index: int = 255, dice: float = 0.0, aux: float = 0.4) -> None:
        self.ignore_index, self.dice, self.aux = ignore_index, dice, aux

    def targets(self, labels: Sequence[Any], name: str) -> Tensor:
        """Return (N, S, S) masks of single ones: (S, S) or (1, S, S) tensors, arrays, or PIL images of one channel."""
        masks = [mask_tensor(label, name) for label in labels]
        if len(shapes := {tuple(mask.shape) for mask in masks}) > 1:
            raise DataError(f"All masks of the {name} split must have one shape (S, S), got {sorted(shapes)[:4]}: resize them, nearest.")
        return torch.stack(masks)

    def num_outputs(self, targets: Tensor) -> int:
        """Return the largest class number plus one, and 2 at least: there is a background, or another class."""
        valid = targets[targets != self.ignore_index]
        return max(2, int(valid.max()) + 1 if len(valid) else 0)

    def check_targets(self, targets: Tensor, num_outputs: int, name: str) -> Tensor:
        """Return (N, S, S) whole numbers, after a check that they are classes in [0, K) or `ignore_index`."""
        if targets.ndim != 3 or targets.shape[1] != targets.shape[2]:
            raise DataError(
                f"The labels of the {name} split must be square masks (images, side, side) for the task segmentation, "
                f"got {tuple(targets.shape)}: give each image a mask of its own side (docs/guides/segmentation.md)."
            )
        if targets.is_floating_point():
            raise DataError(f"The masks of the {name} split must be whole class numbers, got {targets.dtype}: convert, do not scale them.")
        found = targets.unique()
        classes = found[found != self.ignore_index]
        if len(classes) and (int(classes[0]) < 0 or int(classes[-1]) >= num_outputs):
            binary = " If 255 marks the object, save it as 1." if classes[-1] == 255 and len(classes) <= 2 else ""
            raise DataError(
                f"Masks must hold classes in 0..{num_outputs - 1}, or {self.ignore_index} for pixels that count nowhere, got "
                f"{int(classes[0])}..{int(classes[-1])} in the {name} split.{binary}"
            )
        if len(targets) and not len(classes):
            raise DataError(f"The masks of the {name} split must hold some class, but every pixel is {self.ignore_index}.")
        if name == "train" and len(classes) == 1:
            other = f" and {self.ignore_index}, which counts nowhere" if len(found) > 1 else ""
            raise DataError(
                f"The masks of the train split must hold two classes or more, got only {int(classes[0])}{other}: save the number of the "
                "class in each pixel, such as 1 for the object, or set segmentation.ignore_index."
            )
        return targets

    def moved(self, targets: Tensor, window: Window, stored_px: int) -> Tensor:
        """Return the masks (B, side, side) as they lie in the window."""
        return window.of(targets)

    def forward(self, model: nn.Module, images: Tensor, targets: Tensor | None = None) -> Any:
        """Call the model; where it is trained, keep the logits of an auxiliary head too, as ``aux``."""
        raw = model(images)
        main = main_output(raw)
        aux = _auxiliary(raw, main) if targets is not None and self.aux > 0 else None
        return main if aux is None else {MAIN: main, AUX: aux}

    def check_output(self, output: Any, num_images: int, num_outputs: int) -> None:
        """Check that each output is (images, K, h, w)."""
        for part in output.values() if isinstance(output, dict) else [output]:
            is_tensor = isinstance(part, Tensor)
            shape = tuple(part.shape) if is_tensor else type(part).__name__
            if not is_tensor or part.ndim != 4 or shape[:2] != (num_images, num_outputs):
                raise UnsupportedModelError(
                    f"The model's output must be ({num_images}, {num_outputs}, height, width), a logit for each class and pixel, got "
                    f"{shape}: take a model of segmentation, such as torchvision:fcn_resnet50 or unet:basic, and set model.num_classes "
                    "to the data's number of classes."
                )

    def loss(self, output: Any, targets: Tensor, recipe: Recipe) -> Tensor:
        """Return the mean over images of cross-entropy, Dice loss and the auxiliary head's cross-entropy."""
        main, aux = (output[MAIN], output[AUX]) if isinstance(output, dict) else (output, None)
        logits = at_side(main, targets.shape[-1])
        loss = self._cross_entropy(logits, targets, recipe.label_smoothing).mean()
        if self.dice:
            loss = loss + self.dice * self._dice(logits, targets).mean()
        if aux is not None:
            loss = loss + self.aux * self._cross_entropy(at_side(aux, targets.shape[-1]), targets, recipe.label_smoothing).mean()
        return loss

    def distillation(self, output: Any, taught: Any, *, temperature: float, weight: float) -> Tensor:
        """Return weight T^2 KL(softmax(t / T) || softmax(z / T)), a mean over the pixels of the teacher's output."""
        student, teacher = (part[MAIN] if isinstance(part, dict) else part for part in (output, taught))
        shares, soft = (F.log_softmax(at_side(part, teacher.shape[-1]) / temperature, 1) for part in (student, teacher))
        return weight * temperature**2 * F.kl_div(shares, soft, reduction="none", log_target=True).sum(1).mean()

    def transform(self, recipe: Recipe, num_outputs: int) -> Transform | None:
        """Refuse what mixes pictures, or changes them in ways that masks do not follow."""
        for key in ("mixup", "cutmix"):
            if getattr(recipe, key) > 0:
                raise ConfigError(f"{key} must be 0 for the task segmentation, got {getattr(recipe, key)}: masks cannot be mixed.")
        if recipe.randaugment:
            raise ConfigError("randaugment must be empty for the task segmentation: it turns and shears pictures, and masks would stay.")
        return None

    def observe(self, output: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Keep of each image, by class, the pixels that are right, found and wanted (B, 3, K), and its cross-entropy (B,)."""
        logits = at_side(output[MAIN] if isinstance(output, dict) else output, targets.shape[-1]).detach().float()
        if not bool(torch.isfinite(logits).all()):
            raise TrainingError("The model's outputs must be finite, got NaN or infinity: check its weights, or lower peak_lr.")
        targets = targets.to(logits.device)
        return pixel_counts(logits.argmax(1), targets, logits.shape[1], self.ignore_index).cpu(), self._cross_entropy(logits, targets).cpu()

    def score(self, observed: Sequence[Any]) -> Score:
        """Return the mean intersection over union, with an interval by a bootstrap over images.

        Raises:
            DataError: No pixel of the split has a class.
        """
        counts, losses = (torch.cat(parts) for parts in zip(*observed, strict=True))
        right, found, wanted = counts.double().numpy().transpose(1, 0, 2)
        if not wanted.any():
            raise DataError(f"A split must have some pixel with a class, but all of its masks are {self.ignore_index}.")
        value, bounds = interval.mean_iou(right, found, wanted)
        return Score(value, bounds, losses.double().mean().item(), {"mean_iou": value, "pixel_accuracy": float(right.sum() / wanted.sum())})

    def probabilities(self, output: Any) -> Tensor | None:
        """Nothing: an image has many classes."""
        return None

    def _cross_entropy(self, logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return (B,) the mean over an image's pixels that count; 0 where none does."""
        each = F.cross_entropy(logits, targets.long(), ignore_index=self.ignore_index, label_smoothing=smoothing, reduction="none")
        return each.sum((1, 2)) / (targets != self.ignore_index).sum((1, 2)).clamp_min(1)

    def _dice(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return (B,) 1 minus the mean over classes of 2 |p y| / (|p| + |y|), each with 1 pixel more above and below."""
        counts = (targets != self.ignore_index)[:, None]
        classes = torch.where(counts[:, 0], targets, 0).long()
        shares = logits.softmax(1) * counts
        wanted = F.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2) * counts
        both, sizes = (shares * wanted).sum((2, 3)), (shares + wanted).sum((2, 3))
        return 1 - ((2 * both + 1) / (sizes + 1)).mean(1)


def at_side(logits: Tensor, side_px: int) -> Tensor:
    """Return logits (B, K, h, w) at another side, bilinear."""
    if logits.shape[-2:] == (side_px, side_px):
        return logits
    return F.interpolate(logits, (side_px, side_px), mode="bilinear", align_corners=False)


def pixel_counts(found: Tensor, wanted: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Return (B, 3, K): by image and class, the pixels that are right, that were found, and that should have been.

    Args:
        found: (B, H, W) class numbers.
        wanted: (B, H, W) class numbers, or `ignore_index` for pixels that count nowhere.
        num_classes: K.
        ignore_index: See `wanted`.
    """
    counts, images = wanted != ignore_index, torch.arange(len(wanted), device=wanted.device)[:, None, None] * num_classes
    pairs = (found + images)[counts], (wanted.long() + images)[counts]
    parts = [torch.bincount(part, minlength=len(wanted) * num_classes) for part in (pairs[0][pairs[0] == pairs[1]], *pairs)]
    return torch.stack([part.view(len(wanted), num_classes) for part in parts], 1)


def mask_tensor(mask: Any, name: str) -> Tensor:
    """Return a mask (S, S) as uint8 where its numbers allow it, and else as int32.

    Args:
        mask: A tensor or an array of whole numbers, (S, S) or (1, S, S), or a PIL image of one channel; of a palette the indices count.
        name: The split's.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(mask, Image.Image):
        if len(mask.getbands()) > 1:
            raise DataError(
                f"The masks of the {name} split must have one channel of class numbers, got a picture of mode {mask.mode}: "
                "save the number of the class in each pixel, with or without a palette."
            )
        mask = np.array(mask)
    try:
        plain = torch.as_tensor(mask)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"Masks of the {name} split must be tensors, arrays or PIL images, got {type(mask).__name__}: {error}.") from None
    if plain.ndim == 3 and plain.shape[0] == 1:
        plain = plain[0]
    if plain.ndim != 2 or plain.is_floating_point():
        kind = str(plain.dtype).removeprefix("torch.")
        raise DataError(
            f"Each mask of the {name} split must be (side, side) whole class numbers for the task segmentation, got {tuple(plain.shape)} "
            f"of {kind}: torchvision's ToTensor scales, PILToTensor does not."
        )
    fits = not plain.numel() or (int(plain.min()) >= 0 and int(plain.max()) <= 255)
    return plain.to(torch.uint8 if fits else torch.int32)


def _auxiliary(raw: Any, main: Any) -> Tensor | None:
    """Return the logits of an auxiliary head: what is called aux, or else the only other output with as many dimensions and classes."""
    if isinstance(raw, Tensor) or not isinstance(main, Tensor):
        return None
    if isinstance(raw, Mapping) and isinstance(raw.get(AUX), Tensor):
        return raw[AUX]
    others = [part for part in named_tensors(raw).values() if part is not main and part.ndim == main.ndim]
    alike = [part for part in others if part.shape[:2] == main.shape[:2]]
    return alike[0] if len(alike) == 1 else None
