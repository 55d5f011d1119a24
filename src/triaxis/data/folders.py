"""An image folder on disk: where its splits are, which files are pictures, how large they are. Needs no torch."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from triaxis.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}
"""How people name the folder of each split, in any case of letters."""

NUM_SHOWN = 20
SAMPLE = 200
"""Images of a folder whose sides are looked at."""

SMALL_PX = 64
"""Images of at most this side are used whole."""

LARGE_PX = 224
"""The side that larger ones are brought to, where neither the model nor the configuration names one."""


Holding = Literal["pictures", "folders", "both", "nothing"]


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split that is there; the root is train if its folders are classes.

    What a folder holds decides, beside its name: a split folder holds class folders, a class folder holds pictures. So a class may be
    called `train`. What can be read in two ways is warned of.

    Raises:
        DataError: Folders named as splits fit neither reading: two of one split, no train among them, or pictures without a class.
    """
    holds = {entry: _holding(entry) for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")}
    named = {split: [folder for folder in holds if folder.name.lower() in names] for split, names in SPLIT_NAMES.items()}
    others = [folder for folder in holds if not any(folder in folders for folders in named.values())]
    if not any(named.values()):
        _warn_if_all_alike(holds)
        return {"train": root}
    if _is_split(named, others, holds):
        return _only_folders(root, named, others, holds)
    if not others:
        _refuse(root, named, holds)
    taken = ", ".join(folder.name for folders in named.values() for folder in folders)
    log.warning("%s: %s is taken for a class, not for a split, since it lies beside class folders such as %s", root, taken, others[0].name)
    return {"train": root}


def _holding(folder: Path) -> Holding:
    has_pictures = any(entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") for entry in folder.iterdir())
    has_folders = any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())
    return "both" if has_pictures and has_folders else "pictures" if has_pictures else "folders" if has_folders else "nothing"


def _is_split(named: Mapping[str, Sequence[Path]], others: Sequence[Path], holds: Mapping[Path, Holding]) -> bool:
    """Whether the folders named as splits are splits: there is a train, and it holds class folders as a split does."""
    train = {holds[folder] for folder in named["train"]}
    has_other_split = any(holds[folder] == "folders" for split in ("val", "test") for folder in named[split])
    if "both" in train:
        return has_other_split or not any(holds[folder] == "pictures" for folder in others)
    return "folders" in train or (train == {"nothing"} and not others)


def _only_folders(
    root: Path, named: Mapping[str, Sequence[Path]], others: Sequence[Path], holds: Mapping[Path, Holding]
) -> dict[str, Path]:
    for split, folders in named.items():
        if len(folders) > 1:
            raise DataError(
                f"There must be one folder for each split, but {root} has {' and '.join(f.name for f in folders)} for {split}: "
                "rename or move one of them."
            )
    found = {split: folders[0] for split, folders in named.items() if folders}
    for split, folder in found.items():
        if holds[folder] == "pictures":
            raise DataError(
                f"The {split} folder {folder} must hold a folder for each class, but holds pictures without a class: sort them into "
                f"class folders, or move the folder elsewhere; then {split} images are drawn from train."
            )
        if holds[folder] == "both":
            log.warning("%s: pictures that lie beside its class folders are not used", folder)
    if idle := [folder.name for folder in others if holds[folder] != "nothing"]:
        log.warning("%s: not used, since %s is the train split beside them: %s", root, found["train"].name, ", ".join(idle[:NUM_SHOWN]))
    return found


def _refuse(root: Path, named: Mapping[str, Sequence[Path]], holds: Mapping[Path, Holding]) -> None:
    """Say why folders that are all named as splits cannot be used as such, nor as classes."""
    found = [folder for folders in named.values() for folder in folders]
    names = " and ".join(folder.name for folder in found)
    if all(holds[folder] != "pictures" for folder in found) and not named["train"]:
        raise DataError(f"{root} must have a train folder beside {names}: put the train images there.")
    raise DataError(
        f"{root} must hold class folders, or splits that do, but {names} are named as splits and hold pictures themselves: "
        "put a folder for each class into each of them, or, if they are classes, give one another name."
    )


def _warn_if_all_alike(holds: Mapping[Path, Holding]) -> None:
    """Warn if folders that are about to be taken for classes look like splits under names of their own."""
    inside = {folder: {entry.name for entry in folder.iterdir() if entry.is_dir()} for folder, held in holds.items() if held == "folders"}
    common = set.intersection(*inside.values()) if len(inside) == len(holds) > 1 else set()
    if len(common) > 1:
        log.warning(
            "%s are taken for classes, though all of them hold folders named %s: if they are splits, call them train, val and test",
            ", ".join(folder.name for folder in list(holds)[:NUM_SHOWN]),
            ", ".join(sorted(common)[:NUM_SHOWN]),
        )


def tell_classes(names: Sequence[str]) -> None:
    """Tell the user, on the terminal too, which classes were found."""
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    log.info("%d classes: %s%s", len(names), ", ".join(names[:NUM_SHOWN]), more, extra={"is_told": True})


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


def usual_side(side_px: int) -> int:
    """Return the side that pictures of a median side are brought to: their own, or for large ones the usual side, which is said."""
    if side_px <= SMALL_PX:
        return side_px
    log.warning("images of about %d px are brought to %d px: set data.side_px if the model was trained at another side", side_px, LARGE_PX)
    return LARGE_PX
