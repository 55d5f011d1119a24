"""Try the result: predict image files with a compressed model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from triaxis.data.images import StreamedImages
from triaxis.data.pictures import PictureFiles, readable
from triaxis.deliver.load import known_preprocess, load
from triaxis.deliver.plan_file import read_description
from triaxis.errors import ConfigError, DataError
from triaxis.process.usual_torch import usual_torch


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
        ConfigError: The folder holds no compressed model, or one that pictures cannot be made ready for.
    """
    images, directory = [Path(path) for path in images], Path(directory)
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise DataError(f"Every image must be an existing file, got {', '.join(missing)}.")
    description = read_description(directory)
    preprocess, (channels, side, _) = known_preprocess(directory, description), description["input"]
    if channels not in (1, 3):
        raise ConfigError(f"A picture has 1 or 3 channels, but the model in {directory} takes {channels}: call triaxis.load instead.")
    readable(images, skip_bad=False, advice="repair them, or leave them out")
    names = description["class_names"]
    model = load(directory, allow_code=allow_code)
    pictures = PictureFiles(images, [0] * len(images), preprocess, is_grey=channels == 1)
    files = StreamedImages(pictures, max(len(names), 1), preprocess, side, num_workers=0)
    found = {}
    for batch in files.in_order(side):
        with torch.inference_mode():
            rows = model(batch.images).softmax(1)
        for index, row in zip(batch.indices.tolist(), rows, strict=True):
            best = row.topk(min(top, len(row)))
            found[str(images[index])] = [
                (names[i] if i < len(names) else str(i), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
    return found
