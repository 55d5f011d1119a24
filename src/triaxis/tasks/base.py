"""The contract of a task, in prose and as a type: what a network is trained for, and how good it is at it.

*Targets* say what is right. All targets of a split are one tensor with the image first: (N,) class numbers, (N, K) numbers,
(N, H, W) masks, (N, M, 5) boxes that are filled up. What has a place in the picture must not depend on the side at which the
picture is shown, since that is one of the axes that are cut: masks stay at the side of the data, and boxes are shares of the
side. Crops and mirrored pictures come from the split, an `Images`. A task whose targets have places is a `Placed` too: its
`moved` gives them as they lie in the part of the picture that is shown.

*Outputs* are what the task makes of the raw output of a model: a tensor with the image first, or a mapping of names to such
tensors. Raw outputs may be anything, such as a tuple, a mapping or a dataclass of the model's own; `forward` is the map from
one to the other, and `triaxis.tasks.outputs` has what most of them need.

What every task promises, and `triaxis.testing.TaskContract` checks:

* `score` is in [0, 1], larger is better, and an interval of 95 % goes with it. A perfect output scores higher than a random
  one. Trials are compared by it, and docs and reports call it accuracy.
* `observe` keeps of each batch what `score` needs, on the CPU, and no more: how a split falls into batches changes nothing.
* `loss` is a mean over images with a gradient; a perfect output has a smaller one than a random output.
* `distillation` is smallest where the output is the teacher's. The weight and the temperature are the recipe's.
* `forward` is the only way in which a model is called. Where targets are given, the caller will ask for `loss`, or for `score`
  with the loss in it: a task whose models compute their own loss passes the targets to the model then, and `loss` takes what came
  back. In evaluation mode, and without targets, the model must say what it sees.
* Wrong targets are a `DataError`, wrong outputs an `UnsupportedModelError`, before anything is trained.
* A task holds plain settings only, so that it can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from triaxis.tasks.outputs import Output
from triaxis.tasks.window import Window
from triaxis.values import Recipe

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Changes a whole batch of pictures (B, C, S, S) and its targets, as mixup does."""


@dataclass(frozen=True)
class Score:
    """How good a network is on a split.

    `value` in [0, 1] decides; `interval` is its 95 % interval; `loss` the mean loss; `numbers` are others worth knowing, by name.
    """

    value: float
    interval: tuple[float, float]
    loss: float
    numbers: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Task(Protocol):
    """What a network is trained for; see the module's contract.

    `name` is what the configuration calls it. `is_remembered` says whether the outputs of a whole split may be kept in memory, so
    that the base model looks once at pictures that every trial sees. `distils` says whether `distillation` means anything.
    """

    name: str
    is_remembered: bool
    distils: bool

    def targets(self, labels: Sequence[Any], name: str) -> Tensor:
        """Return the targets (N, ...) of single labels, as a data set of the user's own gives them.

        Raises:
            DataError: A label is none of this task; `name` is the split's.
        """

    def num_outputs(self, targets: Tensor) -> int:
        """Return how many outputs a model needs for these targets, for each image or pixel: classes, or numbers."""

    def check_targets(self, targets: Tensor, num_outputs: int, name: str) -> Tensor:
        """Return the targets of a split in the type that `loss` wants.

        Raises:
            DataError: Their shape, type or range is wrong; `name` is the split's.
        """

    def forward(self, model: nn.Module, images: Tensor, targets: Tensor | None = None) -> Output:
        """Call the model on normalised pictures (B, C, S, S), and return the task's output."""

    def check_output(self, output: Any, num_images: int, num_outputs: int) -> None:
        """Check what `forward` returned.

        Raises:
            UnsupportedModelError: Its type or shape is wrong.
        """

    def loss(self, output: Any, targets: Tensor, recipe: Recipe) -> Tensor:
        """Return the mean loss over the images, a scalar; `recipe` says of label smoothing, and targets may be `transform`'s."""

    def distillation(self, output: Any, taught: Any, *, temperature: float, weight: float) -> Tensor:
        """Return `weight` times the mean distance from the base model's output, a scalar."""

    def transform(self, recipe: Recipe, num_outputs: int) -> Transform | None:
        """Return what a recipe does to whole batches, or None.

        Raises:
            ConfigError: The recipe asks for what this task does not have.
        """

    def observe(self, output: Any, targets: Tensor) -> Any:
        """Return what `score` needs to know of a batch, on the CPU."""

    def score(self, observed: Sequence[Any]) -> Score:
        """Return how good the observed batches of a split are together."""

    def probabilities(self, output: Any) -> Tensor | None:
        """Return (B, K) in [0, 1] for `triaxis predict` to show, or None where the outputs are no classes."""


@runtime_checkable
class Placed(Protocol):
    """A task whose targets have places in the picture, such as masks and boxes."""

    def moved(self, targets: Tensor, window: Window, stored_px: int) -> Tensor:
        """Return targets (B, ...) of whole stored pictures, of this side, as they lie in the window of each.

        Raises:
            DataError: The targets are not of the pictures' side.
        """


def placed(task: Task, targets: Tensor, window: Window, stored_px: int) -> Tensor:
    """Return the targets (B, ...) of stored pictures of a side as they lie in a window: moved along, where they have places."""
    return task.moved(targets, window, stored_px) if isinstance(task, Placed) and not window.is_whole(stored_px) else targets
