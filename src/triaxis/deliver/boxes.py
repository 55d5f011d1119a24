"""Try a detector: the boxes that a compressed model finds in image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from triaxis.data.pictures import RESAMPLE, decode, readable, to_tensor
from triaxis.data.pixels import normaliser
from triaxis.deliver.load import known_preprocess, load
from triaxis.deliver.plan_file import read_description
from triaxis.errors import ConfigError, DataError, UnsupportedModelError
from triaxis.process.usual_torch import usual_torch
from triaxis.tasks import Detection
from triaxis.tasks.boxes import kept


class FoundBox(NamedTuple):
    """A thing that was found: its class, a score in [0, 1], and its box x1, y1, x2, y2 in pixels of the picture."""

    name: str
    score: float
    box: tuple[float, float, float, float]


@usual_torch()
def find_boxes(directory: Path, images: Sequence[Path], *, top: int = 5, allow_code: bool = False) -> dict[str, list[FoundBox]]:
    """Return for each image file the boxes with the highest scores; of those that overlap and have one class the best alone.

    Args:
        directory: A run's ``compressed`` folder.
        images: Image files.
        top: Boxes per image.
        allow_code: As for `triaxis.load`.

    Raises:
        DataError: A file is missing or cannot be read.
        ConfigError: The folder holds no compressed detector, or one that pictures cannot be made ready for.
    """
    images, directory = [Path(path) for path in images], Path(directory)
    if missing := [str(path) for path in images if not path.is_file()]:
        raise DataError(f"Every image must be an existing file, got {', '.join(missing)}.")
    description = read_description(directory)
    if description.get("task") != Detection.name or description["input"][0] != 3:
        raise ConfigError(f"The model in {directory} must be a detector of pictures in colour, got task {description.get('task')}.")
    preprocess, side = known_preprocess(directory, description), description["input"][1]
    readable(images, skip_bad=False, advice="repair them, or leave them out")
    model, names, task = load(directory, allow_code=allow_code), description["class_names"], Detection()
    normalise, found = normaliser(preprocess, torch.empty(1, 3, 1, 1, dtype=torch.uint8)), {}
    for path in images:
        picture = decode(path)
        pixels = to_tensor(picture.resize((side, side), RESAMPLE.get(preprocess.interpolation, RESAMPLE["bilinear"])))
        with torch.inference_mode():
            output = task.forward(model, normalise(pixels[None]))
        if not isinstance(output, dict) or not {"boxes", "scores"} <= set(output):
            raise UnsupportedModelError(f"The model in {directory} must return boxes and scores, got {type(output).__name__}.")
        best = kept(output["boxes"][0], output["scores"][0])[:top].tolist()
        found[str(path)] = [_in_pixels(row, picture.size, names) for row in best]
    return found


def _in_pixels(row: Sequence[float], size: tuple[int, int], names: Sequence[str]) -> FoundBox:
    x1, y1, x2, y2, score, label = row
    width, height = size
    name = names[int(label) - 1] if int(label) <= len(names) else ""
    return FoundBox(name or str(int(label)), score, (x1 * width, y1 * height, x2 * width, y2 * height))
