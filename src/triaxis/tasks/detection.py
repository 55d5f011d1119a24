"""Detection: boxes around the things of some classes, by mean average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.errors import ConfigError, DataError, TrainingError, UnsupportedModelError
from triaxis.maths.precision import Matches, mean_average_precision
from triaxis.tasks.base import Score, Transform
from triaxis.tasks.boxes import as_rows, fault, filled, kept, moved
from triaxis.tasks.matching import matches
from triaxis.tasks.window import Window
from triaxis.values import Recipe


class Detection:
    """Outputs ``boxes`` (B, A, 4) in shares of the side with ``scores`` (B, A, K - 1), and ``loss`` (B,) where targets are given.

    Targets are (N, M, 5) boxes with their labels; see `triaxis.tasks.boxes`. The loss is the model's own. The score is COCO's mean
    average precision: the mean over classes, and over overlaps from 0.5 to 0.95, of the average precision.

    A model is called with the pictures and the targets and returns ``loss``, whose mean is the loss; in evaluation mode it returns
    boxes and scores too. Called with pictures alone it may return what its heads say: then its method `found` gives boxes and scores.

    There is no distillation: at another side a network has other anchors than its teacher, and nothing to compare them by.
    """

    name = "detection"
    is_remembered = False
    distils = False

    def targets(self, labels: Sequence[Any], name: str) -> Tensor:
        """Return (N, M, 5) of mappings with boxes in shares and labels."""
        return filled([as_rows(label, f"the {name} split") for label in labels])

    def in_shares(self, label: Any, width_px: int, height_px: int, name: str) -> Tensor:
        """Return (m, 5) of one picture's label in pixels, as torchvision has it; a tensor (m, 5) is in shares already."""
        rows = as_rows(label, name)
        return rows if isinstance(label, Tensor) else rows / torch.tensor([width_px, height_px, width_px, height_px, 1.0])

    def num_outputs(self, targets: Tensor) -> int:
        """Return the largest label plus one, for the background."""
        return max(2, int(targets[..., 4].max()) + 1)

    def check_targets(self, targets: Tensor, num_outputs: int, name: str) -> Tensor:
        """Return (N, M, 5) float32, after a check that boxes lie in their pictures and labels below the number of outputs."""
        if targets.ndim != 3 or targets.shape[-1] != 5:
            raise DataError(
                f"The labels of the {name} split must be boxes for the task detection, (images, boxes, 5), got {tuple(targets.shape)}."
            )
        targets = targets.float()
        if not bool(torch.isfinite(targets).all()):
            raise DataError(f"The boxes of the {name} split must be finite, got NaN or infinity.")
        for index, row in zip(*torch.where(targets.abs().sum(-1) > 0), strict=True):
            *box, label = targets[index, row].tolist()
            if problem := fault(box, label, num_outputs):
                shown = ", ".join(f"{number:.4g}" for number in box)
                raise DataError(f"Box {int(row)} of image {int(index)} of the {name} split, ({shown}) in shares of the side: {problem}.")
        return torch.cat([targets[..., :4].clamp(0, 1), targets[..., 4:]], -1)

    def moved(self, targets: Tensor, window: Window, stored_px: int) -> Tensor:
        """Return the boxes as they lie in the part of each picture that is shown."""
        return moved(targets, window, stored_px)

    def forward(self, model: nn.Module, images: Tensor, targets: Tensor | None = None) -> Any:
        """Call the model; without targets for boxes and scores alone."""
        if targets is not None:
            return model(images, targets)
        found = getattr(model, "found", None)
        return model(images) if found is None else found(images)

    def check_output(self, output: Any, num_images: int, num_outputs: int) -> None:
        """Check that there is a loss, or boxes and scores of as many anchors."""
        found = {name: tuple(part.shape) for name, part in output.items()} if isinstance(output, dict) else type(output).__name__
        boxes, scores, loss = (found.get(name) if isinstance(found, dict) else None for name in ("boxes", "scores", "loss"))
        is_right = loss == (num_images,) or boxes is not None
        if boxes is not None:
            is_right = len(boxes) == 3 and boxes[0] == num_images and boxes[2] == 4 and scores == (*boxes[:2], num_outputs - 1)
        if not is_right:
            raise UnsupportedModelError(
                f"The model must return boxes ({num_images}, A, 4) with scores ({num_images}, A, {num_outputs - 1}), or a loss "
                f"({num_images},), for the task detection, got {found}: take a detector, such as detection:fcos, and set "
                "model.num_classes to the data's number of classes plus one."
            )

    def loss(self, output: Any, targets: Tensor, recipe: Recipe) -> Tensor:
        """Return the mean of the model's own loss."""
        if "loss" not in output:
            raise UnsupportedModelError("The model must return its own loss when it is called with targets, got boxes alone.")
        return output["loss"].mean()

    def distillation(self, output: Any, taught: Any, *, temperature: float, weight: float) -> Tensor:
        """Return 0: there is none."""
        return torch.zeros(())

    def transform(self, recipe: Recipe, num_outputs: int) -> Transform | None:
        """Refuse what is made for classes."""
        for key in ("mixup", "cutmix", "label_smoothing"):
            if getattr(recipe, key) > 0:
                raise ConfigError(f"{key} must be 0 for the task detection, which has no such thing, got {getattr(recipe, key)}.")
        return None

    def observe(self, output: Any, targets: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Keep each picture's boxes that are found, its loss, and its boxes that are right."""
        boxes, scores = output["boxes"].detach(), output["scores"].detach()
        if not bool(torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
            raise TrainingError("The model's boxes must be finite, got NaN or infinity: check its weights, or lower peak_lr.")
        loss = output.get("loss", torch.zeros(len(boxes))).detach().float().cpu()
        right = [target[target[:, 4] > 0].cpu() for target in targets]
        return [kept(*both).float().cpu() for both in zip(boxes, scores, strict=True)], loss, right

    def score(self, observed: Sequence[Any]) -> Score:
        """Return the mean average precision, with an interval by a bootstrap over images.

        Raises:
            DataError: There is no box in the split.
        """
        found = [picture for pictures, _, _ in observed for picture in pictures]
        right = [picture for _, _, pictures in observed for picture in pictures]
        if not any(len(picture) for picture in right):
            raise DataError("A split must have some box for the task detection, but no image has one.")
        matched: Matches = matches(found, right)
        value, bounds, numbers = mean_average_precision(matched)
        loss = torch.cat([losses for _, losses, _ in observed]).double().mean().item()
        return Score(value, bounds, loss, numbers)

    def probabilities(self, output: Any) -> Tensor | None:
        """Nothing: the outputs are boxes."""
        return None
