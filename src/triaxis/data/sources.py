"""Where images come from: the embedded digits, folders of pictures, the known small data sets, or the user's own function."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from triaxis.config import DataConfig
from triaxis.data.coco_splits import coco_splits
from triaxis.data.datasets import from_datasets, measured, require_channels
from triaxis.data.digits import LEVELS, load_digits
from triaxis.data.drawing import draw_some, draw_stratified
from triaxis.data.folders import class_names, median_side, pictures, split_folders, tell_classes, usual_side
from triaxis.data.identity import digest_of_files
from triaxis.data.images import Images, Preprocess, ResidentImages, Sealed, Splits, StreamedImages, resize
from triaxis.data.masks import MaskedFiles, largest_classes, num_classes_of, read_folders
from triaxis.data.memory import fits
from triaxis.data.pictures import PictureFiles, readable
from triaxis.data.scenes import digit_scenes
from triaxis.errors import ConfigError, DataError
from triaxis.plugins import import_named
from triaxis.tasks import CLASSIFICATION, Detection, Segmentation, Task
from triaxis.tasks.boxes import filled

log = logging.getLogger(__name__)

NUM_SCENES, SCENE_PX = 1500, 32
"""Of digit_scenes: scenes of all splits together, and their side where nobody names one."""

Raw = tuple[Any, np.ndarray]
"""Pixels, (N, C, S, S) uint8 tensor or list of files, and (N,) labels."""


@dataclass(frozen=True)
class Source:
    """Splits as they were found: at least ``train``, perhaps ``val`` and ``test``.

    `side_px` is the data set's own side, None for files; `root` the folder that holds all files, None for pixels; `digests` that of
    each file's bytes.
    """

    splits: Mapping[str, Raw]
    class_names: tuple[str, ...]
    side_px: int | None = None
    root: Path | None = None
    digests: Mapping[Path, str] = field(default_factory=dict)


def load_splits(
    config: DataConfig,
    *,
    side_px: int | None = None,
    preprocess: Preprocess | None = None,
    checked: MutableMapping[str, str] | None = None,
    task: Task = CLASSIFICATION,
) -> Splits:
    """Return the train, val and sealed test splits that the configuration names.

    Args:
        config: The `data` section.
        side_px: The base model's input side, if it prescribes one; else the data's own.
        preprocess: The model's own normalisation; None measures mean and deviation on the train split.
        checked: What an earlier opening found out about image files, which are then not decoded again to check them; what is found now
            is added.
        task: Says what the labels of data sets that a function makes are; of the other sources folders of masks hold a class for each
            pixel, COCO folders boxes, and all others one class for each image.

    Raises:
        DataError: Folders, files or labels are unusable.
        ConfigError: The source is unknown, or `mean` and `std` do not suit it.
    """
    if config.has_function:
        return _from_function(config, task)
    kind, _, place = config.source.partition(":")
    require_channels(config.mean, config.std, 3)
    if kind == "digit_scenes":
        return _digit_scenes(config, side_px, preprocess, task)
    if kind == "coco":
        return coco_splits(Path(place).expanduser(), config, side_px=side_px, preprocess=preprocess, checked=checked, task=task)
    if kind == "masks":
        return _from_masks(Path(place).expanduser(), config, side_px, preprocess, checked, task)
    source = READERS[kind](place, config)
    side = config.side_px or side_px or _side_of(source)
    source = _with_all_splits(source, config, checked)
    stats = preprocess or _measure(source.splits["train"], side)
    if config.mean is not None and config.std is not None:
        stats = dataclasses.replace(stats, mean=config.mean, std=config.std)
    make = _maker(source, config, stats, side)
    test = Sealed(lambda: make("test"), torch.from_numpy(source.splits["test"][1]))
    root, digests = source.root, source.digests
    files = {name: digest_of_files(paths, root, digests) for name, (paths, _) in source.splits.items()} if root else {}
    return Splits(train=make("train"), val=make("val"), test=test, class_names=source.class_names, files=files)


def _digit_scenes(config: DataConfig, side_px: int | None, preprocess: Preprocess | None, task: Task) -> Splits:
    """Make scenes of the embedded digits, with masks or boxes as the task wants; each split has digits of its own."""
    if not isinstance(task, Segmentation | Detection):
        raise DataError(
            f"data.source digit_scenes holds masks and boxes, got task {task.name}: set task: segmentation, or task: detection."
        )
    side, (test, val) = config.side_px or side_px or SCENE_PX, (config.test_fraction, config.val_fraction)
    num_test = round(test * NUM_SCENES)
    num_val = round(val * (NUM_SCENES - num_test))
    most = NUM_SCENES - num_test - num_val
    nums = {"train": min(most, config.max_train_images or most), "val": num_val, "test": num_test}
    ends = (0.0, (1 - test) * (1 - val), 1 - test, 1.0)
    parts = dict(zip(nums, itertools.pairwise(ends), strict=True))

    def scenes_of(name: str) -> tuple[Tensor, Tensor]:
        scenes = digit_scenes(max(1, nums[name]), side_px=side, seed=config.seed, part=parts[name])
        pixels = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2).contiguous()
        if isinstance(task, Detection):
            return pixels, filled([torch.from_numpy(scene.boxes[:, [1, 2, 3, 4, 0]] / [*[side] * 4, 1]) for scene in scenes])
        return pixels, torch.from_numpy(np.stack([scene.mask for scene in scenes]))

    train = scenes_of("train")
    stats = preprocess or measured(train[0])
    if config.mean is not None and config.std is not None:
        stats = dataclasses.replace(stats, mean=config.mean, std=config.std)

    def make(name: str, raw: tuple[Tensor, Tensor]) -> Images:
        return ResidentImages(*raw, 11, stats, side, name, task)

    names = ("ground", *"0123456789")[isinstance(task, Detection) :]
    return Splits(make("train", train), make("val", scenes_of("val")), Sealed(lambda: make("test", scenes_of("test"))), names, {}, task)


def _from_masks(
    root: Path,
    config: DataConfig,
    side_px: int | None,
    preprocess: Preprocess | None,
    checked: MutableMapping[str, str] | None,
    task: Task,
) -> Splits:
    """Read folders of pictures with masks; splits that are not there are drawn at random."""
    if not isinstance(task, Segmentation):
        raise DataError(f"data.source masks:PATH holds a class for each pixel, got task {task.name}: set task: segmentation.")
    folders = read_folders(root)
    splits = {name: list(pairs) for name, pairs in folders.splits.items()}
    for name, share, seed in (("test", config.test_fraction, config.seed), ("val", config.val_fraction, config.seed + 1)):
        if name not in splits:
            splits["train"], splits[name] = draw_some(splits["train"], share, seed, name)
    order = np.random.default_rng(config.seed).permutation(len(splits["train"]))[: config.max_train_images]
    splits["train"] = [splits["train"][i] for i in order]
    every = [pair for pairs in splits.values() for pair in pairs]
    largest = largest_classes(every, config.skip_bad, task.ignore_index, checked=checked)
    splits = {name: [pair for pair in pairs if pair in largest] for name, pairs in splits.items()}
    if empty := [name for name, pairs in splits.items() if not pairs]:
        raise DataError(f"The {empty[0]} split must hold at least one picture with a mask that can be read, got none in {root}.")
    classes = num_classes_of(folders, largest, task)
    side = config.side_px or side_px or usual_side(median_side([picture for picture, _ in splits["train"]]))
    stats = preprocess or measured(MaskedFiles(splits["train"][:1000], Preprocess()).decode_all(min(side, 64)))
    if config.mean is not None and config.std is not None:
        stats = dataclasses.replace(stats, mean=config.mean, std=config.std)

    def make(name: str) -> Images:
        files = MaskedFiles(splits[name], stats)
        # A mask takes a third of its picture's memory.
        if fits(len(files), 4 * files.stored_side(side) ** 2, config.memory, name):
            return ResidentImages(files.decode_all(side), files.decode_masks(side), classes, stats, side, name, task)
        return StreamedImages(files, classes, stats, side, name, config.workers or psutil.cpu_count() or 1, task)

    digests = {picture: digest for (picture, _), (digest, _) in largest.items()}
    files = {name: digest_of_files([picture for picture, _ in pairs], root, digests) for name, pairs in splits.items()}
    names = folders.class_names
    return Splits(make("train"), make("val"), Sealed(lambda: make("test")), class_names=names, files=files, task=task)


def _side_of(source: Source) -> int:
    """Return the images' own side, or for large ones the usual side, which is said."""
    return usual_side(source.side_px or median_side(source.splits["train"][0]))


def _digits(place: str, config: DataConfig) -> Source:
    images, labels = load_digits()
    grey = torch.from_numpy((images * (255 / LEVELS)).round().astype(np.uint8))
    return Source({"train": (grey[:, None].repeat(1, 3, 1, 1), labels)}, tuple("0123456789"), 16)


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
    tell_classes(names)
    return Source(found, tuple(names), root=root)


def _files(folder: Path, names: list[str]) -> tuple[list[Path], np.ndarray]:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        inside = pictures(folder / name)
        files += inside
        labels += [label] * len(inside)
    return files, np.array(labels, dtype=np.int64)


def _from_function(config: DataConfig, task: Task) -> Splits:
    """Call the user's ``package.module:function``, which returns `Splits`, or (train, val, test) data sets."""
    name = config.source
    made = import_named(name, setting="data.source")()
    if isinstance(made, Splits):
        if config.mean is not None:
            log.warning("data.mean and data.std have no effect: %s makes Splits, whose Preprocess holds their own", name)
        return made
    if not isinstance(made, Sequence) or isinstance(made, str) or len(made) != 3:
        raise ConfigError(f"{name} must return Splits, or a list of three data sets (train, val, test), got {type(made).__name__}.")
    return from_datasets(*made, mean=config.mean, std=config.std, task=task)


READERS: dict[str, Callable[[str, DataConfig], Source]] = {
    "digits": _digits,
    "imagefolder": _imagefolder,
    "cifar10": _torchvision("CIFAR10", 32),
    "cifar100": _torchvision("CIFAR100", 32),
    "fashion_mnist": _torchvision("FashionMNIST", 28),
    "svhn": _torchvision("SVHN", 32),
}


def _with_all_splits(source: Source, config: DataConfig, checked: MutableMapping[str, str] | None) -> Source:
    """Draw the splits that were not found, stratified, and shuffle train."""
    splits, names = dict(source.splits), source.class_names
    if "test" not in splits:
        splits["train"], splits["test"] = _draw(splits["train"], config.test_fraction, config.seed, "test", names)
    if "val" not in splits:
        splits["train"], splits["val"] = _draw(splits["train"], config.val_fraction, config.seed + 1, "val", names)
    order = np.random.default_rng(config.seed).permutation(len(splits["train"][1]))
    splits["train"] = _take(splits["train"], order)
    if config.max_train_images and config.max_train_images < len(order):
        splits["train"] = _draw(splits["train"], config.max_train_images, config.seed + 2, "train", names)[1]
    splits, digests = _without_bad(splits, config.skip_bad, checked)
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
    return dataclasses.replace(source, splits=splits, digests=digests)


def _without_bad(
    splits: dict[str, Raw], skip_bad: bool, checked: MutableMapping[str, str] | None
) -> tuple[dict[str, Raw], dict[Path, str]]:
    """Leave out the files that cannot be read, or raise with the list of them; also those of test, hours before it is needed."""
    files = [path for pixels, _ in splits.values() if not isinstance(pixels, Tensor) for path in pixels]
    good = readable(files, skip_bad, checked=checked) if files else {}
    if len(good) == len(files):
        return splits, good
    return {name: _take(raw, np.array([i for i, p in enumerate(raw[0]) if p in good], dtype=int)) for name, raw in splits.items()}, good


def _draw(raw: Raw, amount: float | int, seed: int, split: str, names: Sequence[str]) -> tuple[Raw, Raw]:
    labels = raw[1]
    few = [f"{names[i]} ({n})" for i, n in enumerate(np.bincount(labels, minlength=len(names))) if n == 1]
    if few:
        raise DataError(
            f"The {split} split cannot be drawn with some of each class, as these have one image: {', '.join(few[:20])}; "
            f"add images of them, or leave them out."
        )
    try:
        rest, drawn = draw_stratified(labels, amount, seed)
    except ValueError as error:
        raise DataError(f"The {split} split cannot be drawn with some of each class: {error}") from None
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
    return measured(pixels)


def _maker(source: Source, config: DataConfig, preprocess: Preprocess, side_px: int) -> Callable[[str], Images]:
    classes = len(source.class_names)

    def make(name: str) -> Images:
        pixels, labels = source.splits[name]
        if isinstance(pixels, Tensor):
            fitting = pixels if pixels.shape[-1] == side_px else resize(pixels, side_px, preprocess.interpolation)
            return ResidentImages(fitting, torch.from_numpy(labels), classes, preprocess, side_px, name)
        files = PictureFiles(pixels, labels.tolist(), preprocess)
        if fits(len(files), 3 * files.stored_side(side_px) ** 2, config.memory, name):
            return ResidentImages(files.decode_all(side_px), torch.from_numpy(labels), classes, preprocess, side_px, name)
        return StreamedImages(files, classes, preprocess, side_px, name, config.workers or psutil.cpu_count() or 1)

    return make
