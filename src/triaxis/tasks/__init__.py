"""Tasks: what a network is trained for and scored by, one class each; see `base` for what they must do."""

from __future__ import annotations

from typing import Literal

from triaxis.errors import ConfigError
from triaxis.plugins import find_part
from triaxis.tasks.base import Output, Score, Task, Transform, mapped, tensors_in
from triaxis.tasks.classification import Classification
from triaxis.tasks.multi_label import MultiLabel
from triaxis.tasks.per_image import PerImage
from triaxis.tasks.regression import Regression

__all__ = [
    "BOX",
    "CLASSIFICATION",
    "Classification",
    "MultiLabel",
    "Output",
    "PerImage",
    "Regression",
    "Score",
    "Task",
    "Transform",
    "make_task",
    "mapped",
    "tensors_in",
]

BOX: dict[str, type[PerImage]] = {"classification": Classification, "multi_label": MultiLabel, "regression": Regression}
"""The tasks that come with triaxis, by name."""

CLASSIFICATION: Task = Classification()
"""What is meant where nothing is said."""


def make_task(name: str, *, target: Literal["accuracy", "balanced_accuracy"] = "accuracy") -> Task:
    """Return the task of a name: one of the box, an installed one's, or ``package.module:Name``.

    Args:
        name: As the configuration gives it.
        target: What the score of a classification is.

    Raises:
        ConfigError: There is none of this name, or what it names is no task.
    """
    if name == "classification":
        return Classification(target)
    maker = find_part("task", name, BOX, setting="task")
    try:
        made = maker()
    except Exception as error:  # code of the user's own may raise anything
        raise ConfigError(
            f"The task {name} must be a class that can be called without arguments, got {type(error).__name__}: {error}."
        ) from error
    if not isinstance(made, Task):
        raise ConfigError(f"The task {name} must have all that triaxis.tasks.base.Task has, got {type(made).__name__}.")
    return made
