"""COCO folders: pictures, and boxes around what is in them in a JSON file; see docs/guides/detection.md for how they may lie.

Pictures are stretched to a square, as SSD does, so that no box is cut off. Their boxes are shares of the sides, and stay as they are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from triaxis.data.folders import SPLIT_NAMES
from triaxis.data.images import Preprocess
from triaxis.data.pictures import RESAMPLE, to_rgb, to_tensor
from triaxis.errors import DataError
from triaxis.tasks.boxes import fault, filled, moved
from triaxis.tasks.window import Window

log = logging.getLogger(__name__)

LARGEST_ID = 1000
"""Of a category: a network has an output for each number up to the largest."""


@dataclass(frozen=True)
class Annotated:
    """The pictures of one annotation file: their `paths`, for each its `boxes` (m, 5) in shares with labels from 1, and its `sizes`.

    `names` has the classes by label.
    """

    paths: tuple[Path, ...]
    boxes: tuple[Tensor, ...]
    sizes: tuple[tuple[int, int], ...]
    names: Mapping[int, str]

    def take(self, order: Sequence[int]) -> Annotated:
        """Return some of the pictures, in this order."""
        paths, boxes, sizes = (tuple(part[i] for i in order) for part in (self.paths, self.boxes, self.sizes))
        return Annotated(paths, boxes, sizes, self.names)  # type: ignore[arg-type]


def annotation_files(root: Path) -> dict[str, Path]:
    """Return the annotation file of each split in a folder: named after the split, or the only one there is, which is train.

    Raises:
        DataError: There is none, two are of one split, or several are of none.
    """
    if not root.is_dir():
        raise DataError(f"data.source must name a folder with annotations in COCO's form, got {str(root)!r}, which does not exist.")
    files = sorted(
        path for folder in (root, *(p for p in sorted(root.iterdir()) if p.is_dir())) for path in folder.glob("*.json") if _is_boxes(path)
    )
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(_split_of(path, root) or "", []).append(path)
    for split, several in found.items():
        if len(several) > 1:
            what = f"for {split}" if split else "with a name that says train, val or test"
            shown = ", ".join(str(path.relative_to(root)) for path in several[:4])
            raise DataError(f"There must be one annotation file {what} in {root}, got {shown}: move or rename the others.")
    if "" in found and "train" not in found:
        found["train"] = found.pop("")
    if "train" not in found:
        raise DataError(
            f"{root} must hold an annotation file in COCO's form, such as train.json or annotations/instances_train.json, got "
            f"{', '.join(str(path.relative_to(root)) for path in files[:4]) or 'none'}."
        )
    return {split: several[0] for split, several in found.items() if split}


def _is_boxes(path: Path) -> bool:
    """Whether a file may hold boxes: COCO keeps captions and key points of persons beside them."""
    return not path.name.startswith((".", "captions", "person_keypoints", "image_info", "panoptic", "stuff"))


def _split_of(path: Path, root: Path) -> str | None:
    """Return the split that a file's name, or else its folder's, speaks of."""
    for text in (path.stem, path.parent.name if path.parent != root else ""):
        words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
        for split, names in SPLIT_NAMES.items():
            if set(words) & set(names):
                return split
    return None


def read_annotations(path: Path, root: Path) -> Annotated:
    """Read one annotation file; boxes around crowds are left out.

    Args:
        path: The JSON file.
        root: The folder that holds all; pictures lie beside the file, in a folder of its name or of its split, or in ``images``.

    Raises:
        DataError: The file is not in COCO's form, a picture is missing, or a box cannot be right; names the file.
    """
    plain = _read(path)
    shift = 1 if any(category["id"] == 0 for category in plain["categories"]) else 0
    names = {int(category["id"]) + shift: str(category.get("name", "")) for category in plain["categories"]}
    if not names or min(names) < 1 or max(names) > LARGEST_ID:
        raise DataError(
            f"{path} must have categories with ids from 1 to {LARGEST_ID}, got {sorted(names)[:4] or 'none'}: number them anew."
        )
    images = {image["id"]: image for image in plain["images"]}
    if len(images) < len(plain["images"]):
        raise DataError(f"{path} must give each image an id of its own, but some share one.")
    folder = _finder(path, root)
    files = {id_: folder(image["file_name"]) for id_, image in images.items()}
    boxes: dict[Any, list[list[float]]] = {id_: [] for id_ in images}
    for row in plain["annotations"]:
        if row.get("image_id") not in images:
            raise DataError(f"{path}: annotation {row.get('id')} must be of an image in the file, got image_id {row.get('image_id')!r}.")
        if not row.get("iscrowd"):
            place = f"{path}: the box of annotation {row.get('id')} in {files[row['image_id']].name}"
            boxes[row["image_id"]].append(_box(row, images[row["image_id"]], names, shift, place))
    rows = tuple(torch.tensor(boxes[id_]).reshape(-1, 5) for id_ in images)
    sizes = tuple((int(image["width"]), int(image["height"])) for image in images.values())
    return Annotated(tuple(files.values()), rows, sizes, names)


def _read(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text())
        rows = {key: list(plain[key]) for key in ("images", "annotations", "categories")}
        for image in rows["images"]:
            if not (image["width"] > 0 and image["height"] > 0 and isinstance(image["file_name"], str) and image["id"] is not None):
                raise ValueError(f"image {image['id']} has no file_name, width and height")
        for category in rows["categories"]:
            int(category["id"])
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise DataError(
            f"{path} must be in COCO's form, with images (id, file_name, width, height), annotations and categories, but {reason}."
        ) from None
    return rows


def _box(row: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[int, str], shift: int, place: str) -> list[float]:
    """Return x1, y1, x2, y2 in shares and the label of one annotation."""
    try:
        x, y, width, height = (float(number) for number in row["bbox"])
        label = int(row["category_id"]) + shift
    except (TypeError, ValueError, KeyError):
        raise DataError(f"{place} must be [x, y, width, height] in pixels with a category_id, got {row.get('bbox')}.") from None
    shares = [x / image["width"], y / image["height"], (x + width) / image["width"], (y + height) / image["height"]]
    # Annotators' boxes reach a pixel or two beyond the edge.
    near = [min(max(share, 0.0), 1.0) if -0.02 <= share <= 1.02 else share for share in shares]
    problem = fault(near, label, None) or ("" if label in names else f"its category_id must be one of the file's, got {label - shift}")
    if problem:
        raise DataError(f"{place} must lie in its picture of {image['width']} x {image['height']} px, got {row['bbox']}: {problem}.")
    return [*near, float(label)]


def _finder(path: Path, root: Path) -> Callable[[str], Path]:
    """Return what finds a picture of an annotation file by its name."""
    stem = path.stem.removeprefix("instances_")
    split = _split_of(path, root)
    names = [stem, *(SPLIT_NAMES.get(split, ()) if split else ())]
    folders = [path.parent, root, root / "images", *(base / name for name in names for base in (root, root / "images", path.parent))]
    present = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]

    def find(name: str) -> Path:
        for folder in present:
            file = folder / name
            # A name that leads out of the folder is not looked at.
            if file.is_file() and file.resolve().is_relative_to(root.resolve()):
                return file
        shown = ", ".join(str(folder) for folder in present)
        raise DataError(f"{path} names the picture {name!r}, which must lie in one of {shown}, but is in none of them.")

    return find


class BoxedPictures:
    """Image files with boxes, decoded on demand; what `StreamedImages` reads from.

    Args:
        annotated: Files and boxes.
        preprocess: Its interpolation is used here.
    """

    labels = None

    def __init__(self, annotated: Annotated, preprocess: Preprocess) -> None:
        self.paths, self.boxes, self.preprocess = annotated.paths, filled(annotated.boxes), preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def identity(self) -> list[tuple[Any, ...]]:
        """Return name, length and boxes of each file."""
        return [(p.name, p.stat().st_size, boxes.tolist()) for p, boxes in zip(self.paths, self.boxes, strict=True)]

    def stored_side(self, side_px: int) -> int:
        """Return the side itself: nothing is cropped."""
        return side_px

    def picture(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> Tensor:
        """Return (3, side_px, side_px) uint8, the whole picture; `offset` has no effect."""
        picture = to_tensor(stretched(self.paths[index], side_px, self.preprocess.interpolation))
        return picture.flip(2) if flip else picture

    def target(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> Tensor:
        """Return the picture's boxes (M, 5), mirrored as the picture is."""
        window = Window(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([flip]), 0, side_px)
        return moved(self.boxes[index][None], window, side_px)[0]

    def decode_all(self, side_px: int) -> Tensor:
        """Return (N, 3, S, S) uint8; decoding runs in threads."""
        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(lambda index: self.picture(index, side_px, (0.5, 0.5), False), range(len(self)))))


def stretched(path: Path, side_px: int, interpolation: str) -> Image.Image:
    """Return a picture brought to a square; as it is stored, for that is what its boxes were drawn on."""
    with Image.open(path) as opened:
        return to_rgb(opened).resize((side_px, side_px), RESAMPLE.get(interpolation, Image.Resampling.BILINEAR))


def require_sizes(annotated: Annotated) -> None:
    """Check that pictures have the width and height that their annotations say.

    Raises:
        DataError: One has others; names it.
    """

    def size_of(path: Path) -> tuple[int, int]:
        with Image.open(path) as opened:
            return opened.size

    with ThreadPoolExecutor() as pool:
        for path, found, said in zip(annotated.paths, pool.map(size_of, annotated.paths), annotated.sizes, strict=True):
            if found != said:
                raise DataError(
                    f"{path} must be {said[0]} x {said[1]} px, as its annotations say, got {found[0]} x {found[1]}: "
                    "give it the size that its boxes were drawn at."
                )
