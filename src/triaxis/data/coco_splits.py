"""The splits of a COCO folder: read, checked, drawn where they are not there, and kept in memory or streamed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import numpy as np
import psutil

from triaxis.config import DataConfig
from triaxis.data.coco import Annotated, BoxedPictures, annotation_files, read_annotations, require_sizes
from triaxis.data.datasets import measured
from triaxis.data.drawing import draw_some
from triaxis.data.folders import median_side, tell_classes, usual_side
from triaxis.data.identity import digest_of_files
from triaxis.data.images import Images, ResidentImages, Sealed, Splits, StreamedImages
from triaxis.data.memory import fits
from triaxis.data.pictures import readable
from triaxis.data.pixels import Preprocess
from triaxis.errors import DataError
from triaxis.tasks import Detection, Task
from triaxis.tasks.boxes import filled

NUM_MEASURED = 1000
"""Pictures whose colours are measured."""


def coco_splits(
    root: Path,
    config: DataConfig,
    *,
    side_px: int | None,
    preprocess: Preprocess | None,
    checked: MutableMapping[str, str] | None,
    task: Task,
) -> Splits:
    """Return the splits of a folder of pictures with boxes in COCO's form; the arguments are those of `load_splits`.

    Raises:
        DataError: Files are missing, cannot be read or hold wrong boxes, or the task is another.
    """
    if not isinstance(task, Detection):
        raise DataError(f"data.source coco:PATH holds boxes, got task {task.name}: set task: detection.")
    found = {name: read_annotations(path, root) for name, path in annotation_files(root).items()}
    names = _names(found, root)
    splits = _all_drawn(found, config)
    digests = readable([path for part in splits.values() for path in part.paths], config.skip_bad, checked=checked)
    splits = {name: _usable(part, digests, name, root) for name, part in splits.items()}
    side = config.side_px or side_px or usual_side(median_side(splits["train"].paths))
    stats = preprocess or _measure(splits["train"], side)
    if config.mean is not None and config.std is not None:
        stats = dataclasses.replace(stats, mean=config.mean, std=config.std)

    def make(name: str) -> Images:
        files = BoxedPictures(splits[name], stats)
        if fits(len(files), 3 * side**2, config.memory, name):
            return ResidentImages(files.decode_all(side), files.boxes, max(names) + 1, stats, side, name, task)
        return StreamedImages(files, max(names) + 1, stats, side, name, config.workers or psutil.cpu_count() or 1, task)

    tell_classes(list(names.values()))
    return Splits(
        train=make("train"),
        val=make("val"),
        test=Sealed(lambda: make("test"), filled(splits["test"].boxes)),
        class_names=tuple(names.get(label, "") for label in range(1, max(names) + 1)),
        files={name: digest_of_files(part.paths, root, digests) for name, part in splits.items()},
        task=task,
    )


def _names(found: Mapping[str, Annotated], root: Path) -> dict[int, str]:
    """Return the classes by label, after a check that the files of all splits agree."""
    names = dict(found["train"].names)
    for split, part in found.items():
        if part.names != names:
            raise DataError(f"The annotation files in {root} must have the same categories, but those of {split} and train differ.")
    return names


def _all_drawn(found: Mapping[str, Annotated], config: DataConfig) -> dict[str, Annotated]:
    """Return all three splits, train shuffled; those that are not there are drawn from train at random."""
    splits = dict(found)
    for name, share, seed in (("test", config.test_fraction, config.seed), ("val", config.val_fraction, config.seed + 1)):
        if name not in splits:
            rest, drawn = draw_some(range(len(splits["train"].paths)), share, seed, name)
            splits["train"], splits[name] = splits["train"].take(rest), splits["train"].take(drawn)
    order = np.random.default_rng(config.seed).permutation(len(splits["train"].paths))[: config.max_train_images]
    return {**splits, "train": splits["train"].take(order.tolist())}


def _usable(part: Annotated, good: Mapping[Path, str], name: str, root: Path) -> Annotated:
    """Return the pictures of a split that can be read, after a check of their sizes."""
    kept = part.take([n for n, path in enumerate(part.paths) if path in good])
    if not any(len(boxes) for boxes in kept.boxes):
        raise DataError(f"The {name} split must hold at least one picture with a box that can be read, got none in {root}.")
    require_sizes(kept)
    return kept


def _measure(train: Annotated, side_px: int) -> Preprocess:
    some = train.take(range(min(NUM_MEASURED, len(train.paths))))
    return measured(BoxedPictures(some, Preprocess()).decode_all(min(side_px, 64)))
