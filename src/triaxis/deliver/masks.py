"""Predict masks: the class of each pixel of whole pictures, written as PNG files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from triaxis.data.pictures import RESAMPLE, decode, to_tensor
from triaxis.data.pixels import Preprocess, normaliser
from triaxis.deliver.load import known_preprocess, load
from triaxis.deliver.plan_file import read_description
from triaxis.deliver.predict import pictures_for
from triaxis.errors import ConfigError, DataError
from triaxis.process.usual_torch import usual_torch
from triaxis.store.files import write_atomic
from triaxis.tasks import Segmentation
from triaxis.tasks.segmentation import at_side

MOST_CLASSES = 256
"""What a PNG of 8 bits tells apart."""


@usual_torch()
def predict_masks(directory: Path, images: Sequence[Path], out: Path, *, allow_code: bool = False) -> dict[str, dict[str, Any]]:
    """Write for each image file a PNG of its size, whose pixels are class numbers, with a palette to look at it by.

    The model takes squares: a picture that is longer is looked at in squares that overlap, and their probabilities are averaged.

    Args:
        directory: A run's ``compressed`` folder of the task segmentation.
        images: Image files.
        out: Folder of the masks, made if missing; each is called after its picture.
        allow_code: As for `triaxis.load`.

    Returns:
        For each image the `mask` that was written, and `classes`: the share of the pixels of each class that was found, largest first.

    Raises:
        DataError: A file is missing or cannot be read, or two pictures would have one mask.
        ConfigError: The folder holds no compressed model of segmentation, or one that pictures cannot be made ready for.
    """
    images, directory = [Path(path) for path in images], Path(directory)
    description = read_description(directory)
    if description.get("task") != Segmentation.name:
        raise ConfigError(f"The model in {directory} must be of the task segmentation to give masks: call predict_files instead.")
    if twice := [name for name, count in Counter(path.stem for path in images).items() if count > 1]:
        raise DataError(f"Pictures must differ in their names, since masks are called after them, got two called {twice[0]}.")
    channels = pictures_for(directory, description, images)
    preprocess, names = known_preprocess(directory, description), description["class_names"]
    model = load(directory, allow_code=allow_code)
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for path in images:
        picture = decode(path).convert("L" if channels == 1 else "RGB")
        mask = mask_of(model, picture, preprocess, description["input"][1])
        written = out / f"{path.stem}.png"
        save_mask(written, mask)
        numbers, counts = np.unique(mask, return_counts=True)
        shares = sorted(zip(counts / mask.size, numbers, strict=True), reverse=True)
        named = [(names[n] if n < len(names) else str(n), float(share)) for share, n in shares]
        found[str(path)] = {"mask": str(written), "classes": named}
    return found


@torch.inference_mode()
def mask_of(model: nn.Module, picture: Image.Image, preprocess: Preprocess, side_px: int) -> np.ndarray:
    """Return (H, W) class numbers of a picture.

    Args:
        model: Takes normalised (B, C, S, S), returns logits (B, K, h, w) among what it returns.
        picture: Of the model's channels.
        preprocess: How its pixels are made ready.
        side_px: S.
    """
    task, total = Segmentation(), torch.zeros(())
    ready = normaliser(preprocess, torch.empty(0, dtype=torch.uint8))
    for left, top, size in squares(*picture.size):
        square = picture.crop((left, top, left + size, top + size)).resize((side_px, side_px), RESAMPLE.get(preprocess.interpolation))
        shares = at_side(task.forward(model, ready(to_tensor(square)[None])), size).softmax(1)[0]
        if total.ndim == 0:
            total = torch.zeros(len(shares), picture.height, picture.width)
        total[:, top : top + size, left : left + size] += _weighted(shares)
    return total.argmax(0).numpy()


def squares(width: int, height: int) -> Iterator[tuple[int, int, int]]:
    """Yield left, top and side of as few squares as cover a picture, at equal distances along its longer side."""
    size, length = min(width, height), max(width, height)
    for start in np.linspace(0, length - size, -(-length // size)).round().astype(int).tolist():
        yield (start, 0, size) if width >= height else (0, start, size)


def _weighted(shares: Tensor) -> Tensor:
    """Return (K, S, S) with less weight towards the edges, where the model has seen less around a pixel."""
    ramp = 1 - torch.linspace(-0.9, 0.9, shares.shape[-1]).abs()
    return shares * ramp[:, None] * ramp[None, :]


def save_mask(path: Path, mask: np.ndarray) -> None:
    """Write (H, W) class numbers as a PNG with a palette, whole or not at all; with more than 256 classes, as one of 16 bits."""
    if mask.max(initial=0) < MOST_CLASSES:
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.putpalette(palette())
    else:
        picture = Image.fromarray(mask.astype(np.uint16))
    write_atomic(path, lambda temporary: picture.save(temporary, format="PNG"))


def palette() -> list[int]:
    """Return 256 colours that are far apart for small numbers, those of Pascal VOC: black is 0."""
    colours = []
    for number in range(MOST_CLASSES):
        red = green = blue = 0
        for bit in range(8):
            rest = number >> (3 * bit)
            red |= (rest & 1) << (7 - bit)
            green |= (rest >> 1 & 1) << (7 - bit)
            blue |= (rest >> 2 & 1) << (7 - bit)
        colours += [red, green, blue]
    return colours
