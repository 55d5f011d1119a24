"""Tasks: what a network is trained for and scored by, one class each; see `base` for what they must do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from triaxis.errors import ConfigError
from triaxis.plugins import find_part
from triaxis.tasks.base import Placed, Score, Task, Transform, placed
from triaxis.tasks.classification import Classification
from triaxis.tasks.detection import Detection
from triaxis.tasks.multi_label import MultiLabel
from triaxis.tasks.outputs import Output, mapped, named_tensors, tensors_in
from triaxis.tasks.per_image import PerImage
from triaxis.tasks.regression import Regression
from triaxis.tasks.segmentation import Segmentation
from triaxis.tasks.window import Window

__all__ = [
    "BOX",
    "CLASSIFICATION",
    "Classification",
    "Detection",
    "MultiLabel",
    "Output",
    "PerImage",
    "Placed",
    "Regression",
    "Score",
    "Segmentation",
    "Task",
    "Transform",
    "Window",
    "make_task",
    "mapped",
    "named_tensors",
    "placed",
    "tensors_in",
]

BOX: dict[str, Callable[..., Task]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "segmentation": Segmentation,
    "detection": Detection,
}
"""The tasks that come with triaxis, by name."""

CLASSIFICATION: Task = Classification()
"""What is meant where nothing is said."""


def make_task(
    name: str, *, target: Literal["accuracy", "balanced_accuracy"] = "accuracy", settings: Mapping[str, Any] | None = None
) -> Task:
    """Return the task of a name: one of the box, an installed one's, or ``package.module:Name``.

    Args:
        name: As the configuration gives it.
        target: What the score of a classification is.
        settings: Keyword arguments of the class, for a task of the box that has some.

    Raises:
        ConfigError: There is none of this name, or what it names is no task.
    """
    if name == "classification":
        return Classification(target)
    maker = find_part("task", name, BOX, setting="task")
    try:
        made = maker(**(settings or {}))
    except Exception as error:  # code of the user's own may raise anything
        raise ConfigError(
            f"The task {name} must be a class that can be called without arguments, got {type(error).__name__}: {error}."
        ) from error
    if not isinstance(made, Task):
        raise ConfigError(f"The task {name} must have all that triaxis.tasks.base.Task has, got {type(made).__name__}.")
    return made
