"""Where images come from: the embedded digits, folders of pictures, the known small data sets, or the user's own function."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from sklearn.model_selection import train_test_split
from torch import Tensor

from triaxis.config import DataConfig
from triaxis.data.folders import LARGE_PX, SMALL_PX, class_names, median_side, pictures, split_folders
from triaxis.data.images import Images, Preprocess, ResidentImages, Sealed, Splits, StreamedImages, resize
from triaxis.data.pictures import PictureFiles, readable, to_tensor
from triaxis.errors import ConfigError, DataError
from triaxis.plugins import import_named

log = logging.getLogger(__name__)

RESIDENT_SHARE = 0.4
"""Share of the free memory that decoded images may take."""

Raw = tuple[Any, np.ndarray]
"""Pixels, (N, C, S, S) uint8 tensor or list of files, and (N,) labels."""


@dataclass(frozen=True)
class Source:
    """Splits as they were found: at least ``train``, perhaps ``val`` and ``test``; `side_px` is the data set's own side, None for files."""

    splits: Mapping[str, Raw]
    class_names: tuple[str, ...]
    side_px: int | None = None


def load_splits(config: DataConfig, *, side_px: int | None = None, preprocess: Preprocess | None = None) -> Splits:
    """Return the train, val and sealed test splits that the configuration names.

    Args:
        config: The `data` section.
        side_px: The base model's input side, if it prescribes one; else the data's own.
        preprocess: The model's own normalisation; None measures mean and deviation on the train split.

    Raises:
        DataError: Folders, files or labels are unusable.
        ConfigError: The source is unknown.
    """
    kind, _, place = config.source.partition(":")
    source = _from_function(config.source) if config.has_function else READERS[kind](place, config)
    if isinstance(source, Splits):
        return source
    side = config.side_px or side_px or _side_of(source)
    source = _with_all_splits(source, config)
    stats = preprocess or _measure(source.splits["train"], side)
    if config.mean is not None and config.std is not None:
        stats = dataclasses.replace(stats, mean=config.mean, std=config.std)
    make = _maker(source, config, stats, side)
    return Splits(train=make("train"), val=make("val"), test=Sealed(lambda: make("test")), class_names=source.class_names)


def _side_of(source: Source) -> int:
    """Return the images' own side, or for large ones the usual side, which is said."""
    side = source.side_px or median_side(source.splits["train"][0])
    if side <= SMALL_PX:
        return side
    log.warning("images of about %d px are brought to %d px: set data.side_px if the model was trained at another side", side, LARGE_PX)
    return LARGE_PX


def from_datasets(train: Any, val: Any, test: Any, *, num_classes: int | None = None) -> Splits:
    """Return splits made from map-style data sets of (image, label) pairs, decoded once and kept in memory.

    Args:
        train: Items are (C, S, S) tensors (uint8 pixels, or floating point if already normalised) or PIL images, with an int label.
        val: Likewise.
        test: Likewise; not touched until the final model is verified.
        num_classes: None takes the largest label of train and val, plus one.

    Raises:
        DataError: A split is empty, its images differ in shape, or a label is out of range.
    """
    shuffled = np.random.default_rng(0).permutation(len(train))
    raw = {"train": _stack(train, shuffled, "train"), "val": _stack(val, range(len(val)), "val")}
    classes = num_classes or int(max(labels.max() for _, labels in raw.values())) + 1
    images = raw["train"][0]
    channels = images.shape[1]
    as_they_are = Preprocess(mean=(0.0,) * channels, std=(1.0,) * channels)
    stats = as_they_are if images.is_floating_point() else _measure(raw["train"], images.shape[-1])
    opened = {name: ResidentImages(x, torch.as_tensor(y), classes, stats, name=name) for name, (x, y) in raw.items()}

    def open_test() -> Images:
        pixels, labels = _stack(test, range(len(test)), "test")
        return ResidentImages(pixels, torch.as_tensor(labels), classes, stats, name="test")

    return Splits(train=opened["train"], val=opened["val"], test=Sealed(open_test))


def _stack(dataset: Any, order: Any, name: str) -> Raw:
    if len(dataset) == 0:
        raise DataError(f"The {name} split must hold at least one image, got none.")
    pictures, labels = [], []
    for index in order:
        picture, label = dataset[int(index)]
        pictures.append(_as_tensor(picture, name))
        try:
            labels.append(int(label))
        except (TypeError, ValueError):
            raise DataError(f"The labels of the {name} split must be whole numbers from 0, got {label!r}.") from None
    shapes = {tuple(p.shape) for p in pictures}
    first = next(iter(shapes))
    if len(shapes) > 1 or len(first) != 3 or first[1] != first[2]:
        raise DataError(
            f"All images of the {name} split must have one shape (C, S, S), got {sorted(shapes)[:4]}: resize them in the data set."
        )
    return torch.stack(pictures), np.array(labels, dtype=np.int64)


def _as_tensor(picture: Any, name: str) -> Tensor:
    if isinstance(picture, Tensor):
        return picture.float() if picture.is_floating_point() else picture
    if not isinstance(picture, Image.Image):
        raise DataError(f"The images of the {name} split must be tensors or PIL images, got {type(picture).__name__}.")
    return to_tensor(picture.convert("RGB"))


def _digits(place: str, config: DataConfig) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8))
    return Source({"train": (grey[:, None].repeat(1, 3, 1, 1), digits.target)}, tuple("0123456789"), 16)


def _torchvision(name: str, side_px: int) -> Callable[[str, DataConfig], Source]:
    def read(place: str, config: DataConfig) -> Source:
        import torchvision.datasets

        kind = getattr(torchvision.datasets, name)
        flags = [{"split": "train"}, {"split": "test"}] if name == "SVHN" else [{"train": True}, {"train": False}]
        try:
            train, test = (kind(place, download=config.download, **flag) for flag in flags)
        except RuntimeError as error:
            raise DataError(
                f"{name} must be in {place or 'the folder after the colon'}, got: {error}. Set data.download: true to fetch it."
            ) from None
        names = tuple(getattr(train, "classes", [str(i) for i in range(10)]))
        return Source({"train": _pixels(train), "test": _pixels(test)}, names, side_px)

    return read


def _pixels(dataset: Any) -> Raw:
    data = np.asarray(dataset.data)
    labels = np.asarray(getattr(dataset, "targets", getattr(dataset, "labels", None)), dtype=np.int64)
    if data.ndim == 3:
        data = np.repeat(data[:, None], 3, axis=1)
    elif data.shape[-1] == 3:
        data = data.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(data)), labels


def _imagefolder(place: str, config: DataConfig) -> Source:
    root = Path(place).expanduser()
    if not root.is_dir():
        raise DataError(f"data.source must name a folder of class folders, got {place!r}, which does not exist.")
    present = split_folders(root)
    names = class_names(list(present.values()))
    if len(names) < 2:
        raise DataError(f"{present['train']} must hold a folder for each of at least two classes, got {names or 'none'}.")
    found = {name: _files(folder, names) for name, folder in present.items()}
    for name, (_, labels) in found.items():
        missing = [names[i] for i in range(len(names)) if i not in set(labels)]
        if missing and name == "train":
            raise DataError(f"Every class must have train images, got none for {', '.join(missing)} in {present[name]}.")
        if missing:
            log.warning("the %s split has no images of %s", name, ", ".join(missing))
    return Source(found, tuple(names))


def _files(folder: Path, names: list[str]) -> tuple[list[Path], np.ndarray]:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        inside = pictures(folder / name)
        files += inside
        labels += [label] * len(inside)
    return files, np.array(labels, dtype=np.int64)


def _from_function(name: str) -> Source | Splits:
    """Call the user's ``package.module:function``, which returns `Splits`, or (train, val, test) data sets."""
    made = import_named(name, setting="data.source")()
    if isinstance(made, Splits):
        return made
    if not isinstance(made, Sequence) or len(made) != 3:
        raise ConfigError(f"{name} must return Splits, or a list of three data sets (train, val, test), got {type(made).__name__}.")
    return from_datasets(*made)


READERS: dict[str, Callable[[str, DataConfig], Source]] = {
    "digits": _digits,
    "imagefolder": _imagefolder,
    "cifar10": _torchvision("CIFAR10", 32),
    "cifar100": _torchvision("CIFAR100", 32),
    "fashion_mnist": _torchvision("FashionMNIST", 28),
    "svhn": _torchvision("SVHN", 32),
}


def _with_all_splits(source: Source, config: DataConfig) -> Source:
    """Draw the splits that were not found, stratified, and shuffle train."""
    splits = dict(source.splits)
    if "test" not in splits:
        splits["train"], splits["test"] = _draw(splits["train"], config.test_fraction, config.seed, "test")
    if "val" not in splits:
        splits["train"], splits["val"] = _draw(splits["train"], config.val_fraction, config.seed + 1, "val")
    order = np.random.default_rng(config.seed).permutation(len(splits["train"][1]))
    splits["train"] = _take(splits["train"], order)
    if config.max_train_images and config.max_train_images < len(order):
        splits["train"] = _draw(splits["train"], config.max_train_images, config.seed + 2, "train")[1]
    splits = _without_bad(splits, config.skip_bad)
    for name, (_, labels) in splits.items():
        if len(labels) == 0:
            raise DataError(
                f"The {name} split must hold at least one image, got none: fill its folder, or remove it so that the split is drawn."
            )
    missing = sorted(set(range(len(source.class_names))) - set(splits["train"][1].tolist()))
    if missing:
        raise DataError(
            f"Every class must have train images that can be read, got none for {', '.join(source.class_names[i] for i in missing)}."
        )
    return Source(splits, source.class_names, source.side_px)


def _without_bad(splits: dict[str, Raw], skip_bad: bool) -> dict[str, Raw]:
    """Leave out the files that cannot be read, or raise with the list of them; also those of test, hours before it is needed."""
    files = [path for pixels, _ in splits.values() if not isinstance(pixels, Tensor) for path in pixels]
    good = readable(files, skip_bad) if files else set()
    if len(good) == len(files):
        return splits
    return {name: _take(raw, np.array([i for i, p in enumerate(raw[0]) if p in good], dtype=int)) for name, raw in splits.items()}


def _draw(raw: Raw, amount: float | int, seed: int, name: str) -> tuple[Raw, Raw]:
    labels = raw[1]
    try:
        rest, drawn = train_test_split(np.arange(len(labels)), test_size=amount, random_state=seed, stratify=labels)
    except ValueError as error:
        raise DataError(f"The {name} split cannot be drawn with some of each class: {error}") from None
    return _take(raw, rest), _take(raw, drawn)


def _take(raw: Raw, order: np.ndarray) -> Raw:
    pixels, labels = raw
    taken = pixels[torch.from_numpy(order)] if isinstance(pixels, Tensor) else [pixels[i] for i in order]
    return taken, labels[order]


def _measure(raw: Raw, side_px: int) -> Preprocess:
    """Return mean and deviation per channel over (a sample of) the train pixels."""
    pixels, labels = raw
    if not isinstance(pixels, Tensor):
        some = np.linspace(0, len(pixels) - 1, min(1000, len(pixels))).astype(int)
        pixels = PictureFiles([pixels[i] for i in some], labels[some].tolist(), Preprocess()).decode_all(min(side_px, 64))
    values = pixels[:5000].float().div(255)
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp_min(1e-3)
    return Preprocess(mean=tuple(round(v, 4) for v in mean.tolist()), std=tuple(round(v, 4) for v in std.tolist()))


def _maker(source: Source, config: DataConfig, preprocess: Preprocess, side_px: int) -> Callable[[str], Images]:
    classes = len(source.class_names)

    def make(name: str) -> Images:
        pixels, labels = source.splits[name]
        if isinstance(pixels, Tensor):
            fitting = pixels if pixels.shape[-1] == side_px else resize(pixels, side_px, preprocess.interpolation)
            return ResidentImages(fitting, torch.from_numpy(labels), classes, preprocess, side_px, name)
        files = PictureFiles(pixels, labels.tolist(), preprocess)
        if _fits(files, side_px, config.memory, name):
            return ResidentImages(files.decode_all(side_px), torch.from_numpy(labels), classes, preprocess, side_px, name)
        return StreamedImages(files, classes, preprocess, side_px, name, config.workers or psutil.cpu_count() or 1)

    return make


def _fits(files: PictureFiles, side_px: int, memory: str, name: str) -> bool:
    needed = len(files) * 3 * files.stored_side(side_px) ** 2
    free = psutil.virtual_memory().available
    resident = memory == "resident" or (memory == "auto" and needed <= RESIDENT_SHARE * free)
    where = "kept decoded in memory" if resident else "streamed from disk"
    log.info("%s: %d images need %.0f MB decoded, %.0f MB are free: %s", name, len(files), needed / 1e6, free / 1e6, where)
    return resident
