"""What the tasks have in common whose model returns K numbers for each image: a base to write a task on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.errors import ConfigError, DataError, TrainingError, UnsupportedModelError
from triaxis.tasks.base import Transform
from triaxis.tasks.outputs import main_output, named_tensors
from triaxis.values import Recipe


class PerImage:
    """Outputs (B, K), targets (N, K) of float32. A task adds `loss`, `distillation` and `scored`, and may check its targets further."""

    name = ""
    is_remembered = True
    distils = True
    words = "number"
    """What one output is, in errors."""

    def targets(self, labels: Sequence[Any], name: str) -> Tensor:
        """Return (N, K) float32 of labels that are K numbers each."""
        try:
            rows = [torch.as_tensor(label, dtype=torch.float32).flatten() for label in labels]
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"Each label of the {name} split must be one or more numbers for the task {self.name}: {error}.") from None
        if len({len(row) for row in rows}) > 1:
            lengths = sorted({len(row) for row in rows})
            raise DataError(f"All labels of the {name} split must have as many numbers for the task {self.name}, got {lengths[:4]}.")
        return torch.stack(rows)

    def num_outputs(self, targets: Tensor) -> int:
        """Return K."""
        return targets.shape[1] if targets.ndim == 2 else 1

    def check_targets(self, targets: Tensor, num_outputs: int, name: str) -> Tensor:
        """Return (N, K) float32, after a check that they are finite."""
        if targets.ndim != 2 or targets.shape[1] != num_outputs:
            raise DataError(
                f"The labels of the {name} split must be (images, {num_outputs}) for the task {self.name}, got {tuple(targets.shape)}: "
                "give each image that many numbers."
            )
        targets = targets.float()
        if not bool(torch.isfinite(targets).all()):
            raise DataError(f"The labels of the {name} split must be finite for the task {self.name}, got NaN or infinity.")
        return targets

    def forward(self, model: nn.Module, images: Tensor, targets: Tensor | None = None) -> Any:
        """Call the model; of several outputs take the one named logits or out, or the first of a tuple."""
        return main_output(model(images))

    def check_output(self, output: Any, num_images: int, num_outputs: int) -> None:
        """Check that the output is (images, K)."""
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if not isinstance(output, Tensor) and (found := named_tensors(output)):
            raise UnsupportedModelError(
                f"The model must return one {self.words} as a tensor, or as logits or out among several, got {shape} with "
                f"{', '.join(found)}: rename one of them, or write a task whose forward picks it (docs/extending.md)."
            )
        if shape != (num_images, num_outputs):
            raise UnsupportedModelError(
                f"The model's output must be ({num_images}, {num_outputs}), one {self.words}, got {shape}: "
                "set model.num_classes to the data's number of classes, or adapt the classifier."
            )

    def transform(self, recipe: Recipe, num_outputs: int) -> Transform | None:
        """Refuse what is made for classes."""
        for key in ("mixup", "cutmix", "label_smoothing"):
            if getattr(recipe, key) > 0:
                raise ConfigError(f"{key} must be 0 for the task {self.name}, which has no such thing, got {getattr(recipe, key)}.")
        return None

    def observe(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Keep outputs and targets."""
        return output.detach().float().cpu(), targets.cpu()

    def probabilities(self, output: Tensor) -> Tensor | None:
        """Nothing: the outputs are no classes."""
        return None


def gathered(observed: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return outputs (N, K) and targets (N, ...) of a whole split.

    Raises:
        TrainingError: An output is NaN or infinite.
    """
    outputs, targets = (torch.cat(parts) for parts in zip(*observed, strict=True))
    if not bool(torch.isfinite(outputs).all()):
        raise TrainingError("The model's outputs must be finite, got NaN or infinity: check its weights, or lower peak_lr.")
    return outputs, targets
