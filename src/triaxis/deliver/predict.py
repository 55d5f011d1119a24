"""Try the result: predict image files with a compressed model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from triaxis.data.images import StreamedImages
from triaxis.data.pictures import PictureFiles, readable
from triaxis.deliver.load import known_preprocess, load
from triaxis.deliver.plan_file import read_description
from triaxis.errors import ConfigError, DataError
from triaxis.process.usual_torch import usual_torch
from triaxis.tasks import BOX, Segmentation, Task


@usual_torch()
def predict_files(directory: Path, images: Sequence[Path], *, top: int = 5, allow_code: bool = False) -> dict[str, list[tuple[str, float]]]:
    """Return for each image file the most probable classes with their probabilities in [0, 1].

    Args:
        directory: A run's ``compressed`` folder.
        images: Image files.
        top: Classes per image.
        allow_code: As for `triaxis.load`.

    Raises:
        DataError: A file is missing or cannot be read.
        ConfigError: The folder holds no compressed model, one that pictures cannot be made ready for, or one of a task without classes.
    """
    images, directory = [Path(path) for path in images], Path(directory)
    description = read_description(directory)
    channels, side = pictures_for(directory, description, images), description["input"][1]
    preprocess = known_preprocess(directory, description)
    names, task = description["class_names"], _task_of_classes(directory, description)
    model = load(directory, allow_code=allow_code)
    pictures = PictureFiles(images, [0] * len(images), preprocess, is_grey=channels == 1)
    files = StreamedImages(pictures, max(len(names), 1), preprocess, side, num_workers=0)
    found = {}
    for batch in files.in_order(side):
        with torch.inference_mode():
            rows = task.probabilities(task.forward(model, batch.images))
        assert rows is not None
        for index, row in zip(batch.indices.tolist(), rows, strict=True):
            best = row.topk(min(top, len(row)))
            found[str(images[index])] = [
                (names[i] if i < len(names) else str(i), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
    return found


def pictures_for(directory: Path, description: dict[str, Any], images: Sequence[Path]) -> int:
    """Return how many channels the model of a compressed folder takes, after a check that all the pictures can be read.

    Raises:
        DataError: A file is missing or cannot be read.
        ConfigError: The model takes no pictures.
    """
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise DataError(f"Every image must be an existing file, got {', '.join(missing)}.")
    channels = int(description["input"][0])
    if channels not in (1, 3):
        raise ConfigError(f"A picture has 1 or 3 channels, but the model in {directory} takes {channels}: call triaxis.load instead.")
    readable(images, skip_bad=False, advice="repair them, or leave them out")
    return channels


def _task_of_classes(directory: Path, description: dict[str, Any]) -> Task:
    """Return the task that ``plan.json`` names, one of the box: the file may come from anybody, and must not name code to run."""
    name = description.get("task", "classification")
    task = BOX[name]() if name in BOX else None
    if name == Segmentation.name:
        raise ConfigError(f"The model in {directory} gives masks: call triaxis predict, or triaxis.deliver.masks.predict_masks.")
    if task is None or task.probabilities(torch.zeros(1, 1)) is None:
        raise ConfigError(
            f"The model in {directory} was trained for the task {name}, whose outputs are no classes to show: call triaxis.load instead."
        )
    return task
