"""An image folder on disk: where its splits are, which files are pictures, how large they are. Needs no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from triaxis.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
SAMPLE = 200
"""Images of a folder whose sides are looked at."""

SMALL_PX = 64
"""Images of at most this side are used whole."""

LARGE_PX = 224
"""The side that larger ones are brought to, where neither the model nor the configuration names one."""


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split that is there, whatever the case of its name; the root is train if no folder has that name."""
    folders = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    found = {split: [folders[name] for name in names if name in folders] for split, names in SPLIT_NAMES.items()}
    return {split: places[0] for split, places in found.items() if places} if found["train"] else {"train": root}


def class_names(folders: Sequence[Path]) -> list[str]:
    """Return the sorted names of the class folders in all the splits' folders."""
    return sorted({entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")})


def pictures(folder: Path) -> list[Path]:
    """Return the picture files in and below a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def median_side(files: Sequence[Path]) -> int:
    """Return the median shorter side of a sample, in pixels; unreadable images are the run's business, which names them all.

    Raises:
        DataError: None of the sample can be read.
    """
    from PIL import Image

    sides, sample = [], files[:: max(1, len(files) // SAMPLE)]
    for file in sample:
        try:
            with Image.open(file) as image:
                sides.append(min(image.size))
        except OSError:
            continue
    if not sides:
        raise DataError(f"The folder must hold images that can be read, but none of {len(sample)} looked at could be, such as {sample[0]}.")
    return round(statistics.median(sides))
