"""Folders of pictures with masks: the files of both, read, checked and shown together.

Two layouts are read. A mask has the stem of its picture and holds the number of a class in each pixel:

    ROOT/SPLIT/images/NAME.jpg  with  ROOT/SPLIT/masks/NAME.png        one folder for each split
    ROOT/images/SPLIT/NAME.jpg  with  ROOT/masks/SPLIT/NAME.png        the splits inside

The folders of splits may be missing: then val and test are drawn at random. ``ROOT/classes.txt`` may name the classes, a line each.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from triaxis.data.folders import NUM_SHOWN, SPLIT_NAMES, SUFFIXES
from triaxis.data.pictures import PictureFiles, decode, mark_of
from triaxis.data.pixels import Preprocess
from triaxis.errors import DataError
from triaxis.tasks import Segmentation
from triaxis.tasks.segmentation import mask_tensor

log = logging.getLogger(__name__)

IMAGES, MASKS = ("images", "image", "imgs", "jpegimages"), ("masks", "mask", "labels", "annotations", "segmentationclass")
"""How people name the folders of pictures and of masks, in any case of letters."""

Pair = tuple[Path, Path]
"""A picture, and its mask."""


@dataclass(frozen=True)
class MaskFolders:
    """What lies in a folder: the pairs of each split that is there, and the names of the classes, if they are said."""

    root: Path
    splits: Mapping[str, Sequence[Pair]]
    class_names: tuple[str, ...] = ()


def read_folders(root: Path) -> MaskFolders:
    """Return the pairs of pictures and masks in a folder, by split; all in ``train`` where it has no splits.

    Raises:
        DataError: The folder has neither layout, a picture has no mask, or there is no train split.
    """
    if not root.is_dir():
        raise DataError(f"data.source must name a folder of pictures and masks, got {str(root)!r}, which does not exist.")
    found: dict[str, tuple[Path, Path]] = {}
    images, masks = (_child(root, names) for names in (IMAGES, MASKS))
    for split, names in SPLIT_NAMES.items():
        inside = [_child(folder, names) if folder else None for folder in (images, masks)]
        own = _child(root, names)
        outside = [_child(own, kind) if own else None for kind in (IMAGES, MASKS)]
        pair = outside if all(outside) else inside
        if pair[0] and pair[1]:
            found[split] = (pair[0], pair[1])
    if not found and images and masks:
        found["train"] = (images, masks)
    if "train" not in found:
        raise DataError(
            f"{root} must hold images and masks as train/images and train/masks, as images/train and masks/train, or as images and masks, "
            f"got {', '.join(sorted(entry.name for entry in root.iterdir())[:NUM_SHOWN]) or 'nothing'}."
        )
    splits = {split: _pairs(*folders) for split, folders in found.items()}
    return MaskFolders(root, splits, _class_names(root / "classes.txt"))


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    return next((entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name.lower() in names), None)


def _pairs(images: Path, masks: Path) -> list[Pair]:
    """Return the pairs with equal stems, in the order of their names."""
    of_images, of_masks = (_by_stem(folder) for folder in (images, masks))
    lacking = [path.name for stem, path in of_images.items() if stem not in of_masks]
    if lacking or not of_images:
        shown = ", ".join(lacking[:NUM_SHOWN]) + (f" and {len(lacking) - NUM_SHOWN} more" if len(lacking) > NUM_SHOWN else "")
        raise DataError(
            f"Every picture in {images} must have a mask of the same stem in {masks}, "
            + (f"got none for {shown}." if lacking else "but there are no pictures.")
        )
    if idle := [path.name for stem, path in of_masks.items() if stem not in of_images]:
        log.warning("%s: %d masks have no picture, and are not used, such as %s", masks, len(idle), idle[0])
    return [(path, of_masks[stem]) for stem, path in of_images.items()]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise DataError(f"Files in {folder} must differ in their stems, got {found[stem].name} and {path.name}.")
            found[stem] = path
    return found


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except OSError:
        return ()
    except UnicodeDecodeError:
        raise DataError(f"{path} must name a class on each line in UTF-8, but it is no such text.") from None


def read_mask(path: Path) -> Image.Image:
    """Return a mask of one channel, whose pixels are numbers of classes.

    Raises:
        ValueError: It has more channels, or is a JPEG, which changes numbers.
        OSError: It cannot be read.
    """
    with Image.open(path) as opened:
        if opened.format == "JPEG":
            raise ValueError("a JPEG changes the numbers of classes: save masks as PNG")
        if len(opened.getbands()) > 1:
            raise ValueError(f"it has {len(opened.getbands())} channels ({opened.mode}): save one, with the number of each pixel's class")
        if opened.mode == "F":
            raise ValueError("its pixels are floats: save whole numbers")
        opened.load()
        return opened.copy()


def largest_classes(
    pairs: Sequence[Pair], skip_bad: bool, ignore_index: int, *, checked: MutableMapping[str, str] | None = None
) -> dict[Pair, tuple[str, int]]:
    """Return of each pair that can be read a digest of both files' bytes, and the largest class number of its mask (-1: none).

    Args:
        pairs: Pictures and masks.
        skip_bad: Leave out those that cannot be read, with a warning.
        ignore_index: A number that is no class.
        checked: What is known of pairs that were read without fault before; today's are added.

    Raises:
        DataError: Some cannot be read, or differ in size, and `skip_bad` is false; the message lists them.
    """
    known: MutableMapping[str, str] = {} if checked is None else checked
    good: dict[Pair, tuple[str, int]] = {}

    def fault(pair: Pair) -> str | None:
        try:
            mark = f"{mark_of(pair[0])}{mark_of(pair[1])}:{ignore_index}"
            if mark not in known:
                known[mark] = _looked_at(pair, ignore_index)
            digest, _, largest = known[mark].partition(":")
            good[pair] = (digest, int(largest))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return str(error).partition("\n")[0].replace(str(pair[0]), "the picture").replace(str(pair[1]), "the mask")
        return None

    with ThreadPoolExecutor() as pool:
        faults = {pair: text for pair, text in zip(pairs, pool.map(fault, pairs), strict=True) if text}
    if faults:
        shown = "".join(f"\n  {mask}: {text}" for (_, mask), text in list(faults.items())[:NUM_SHOWN])
        more = f"\n  and {len(faults) - NUM_SHOWN} more" if len(faults) > NUM_SHOWN else ""
        if not skip_bad:
            raise DataError(
                f"Every picture must be readable with its mask, got {len(faults)} of {len(pairs)} that are not; repair or remove them, "
                f"or set data.skip_bad: true:{shown}{more}"
            )
        log.warning("left out %d of %d pictures with masks that cannot be read:%s%s", len(faults), len(pairs), shown, more)
    return {pair: good[pair] for pair in pairs if pair in good}


def _looked_at(pair: Pair, ignore_index: int) -> str:
    picture, mask = decode(pair[0]), read_mask(pair[1])
    if picture.size != mask.size:
        (width, height), (wide, high) = mask.size, picture.size
        raise ValueError(f"it is {width} x {height} px, and its picture {wide} x {high}")
    numbers = np.unique(np.array(mask))
    largest = int(max((n for n in numbers.tolist() if n != ignore_index), default=-1))
    digest = hashlib.blake2b(pair[0].read_bytes() + pair[1].read_bytes(), digest_size=8).hexdigest()
    return f"{digest}:{largest}"


class MaskedFiles(PictureFiles):
    """Pictures with masks, decoded on demand; what `StreamedImages` reads from.

    Args:
        pairs: The files.
        preprocess: Its crop fraction and interpolation are used for pictures; masks are resized to the nearest pixel.
    """

    def __init__(self, pairs: Sequence[Pair], preprocess: Preprocess) -> None:
        super().__init__([picture for picture, _ in pairs], [0] * len(pairs), preprocess)
        self.masks, self.labels = [mask for _, mask in pairs], None

    def identity(self) -> list[tuple[str, int, int]]:
        """Return name and length of each picture, and the length of its mask."""
        return [(p.name, p.stat().st_size, m.stat().st_size) for p, m in zip(self.paths, self.masks, strict=True)]

    def target(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> Tensor:
        """Return the (side_px, side_px) mask of the crop that `picture` gives."""
        stored = self.stored_side(side_px)
        mask = self._whole(index, stored)
        top, left = (round(place * (stored - side_px)) for place in offset)
        crop = mask[top : top + side_px, left : left + side_px]
        return crop.flip(1) if flip else crop

    def decode_masks(self, side_px: int) -> Tensor:
        """Return (N, S, S), S = stored side; decoding runs in threads."""
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda index: self._whole(index, self.stored_side(side_px)), range(len(self))))
        return torch.stack(found) if len({mask.dtype for mask in found}) == 1 else torch.stack([mask.int() for mask in found])

    def _whole(self, index: int, stored: int) -> Tensor:
        fitted = ImageOps.fit(_plain(read_mask(self.masks[index])), (stored, stored), Image.Resampling.NEAREST)
        return mask_tensor(fitted, self.masks[index].name)


def _plain(mask: Image.Image) -> Image.Image:
    """Return a mask in a mode that is resized number by number: of a palette the indices count."""
    if mask.mode in ("P", "1"):
        return Image.fromarray(np.array(mask).astype(np.uint8))
    return mask.convert("I") if mask.mode.startswith("I;16") else mask


def num_classes_of(folders: MaskFolders, largest: Mapping[Pair, tuple[str, int]], task: Segmentation) -> int:
    """Return how many classes there are: those that are named, or the largest number in any mask plus one.

    Raises:
        DataError: A mask holds a number beyond the names.
    """
    most = max((number for _, number in largest.values()), default=-1) + 1
    if folders.class_names and most > len(folders.class_names):
        where = next(mask for (_, mask), (_, number) in largest.items() if number + 1 == most)
        raise DataError(
            f"Masks must hold numbers of the {len(folders.class_names)} classes in {folders.root / 'classes.txt'}, 0 to "
            f"{len(folders.class_names) - 1}, or segmentation.ignore_index ({task.ignore_index}), got {most - 1} in {where}."
        )
    return max(2, len(folders.class_names) or most)
