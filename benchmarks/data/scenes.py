"""Make a data set for segmentation and detection out of CIFAR-10: pictures cut to round shapes and pasted on textured ground.

    python benchmarks/data/scenes.py CIFAR10 OUT --side 96 --num 2000 400 600

CIFAR10 holds class folders of pictures under train/ and test/. Written are, for each split,

    OUT/SPLIT/images/00000.png               the scene
    OUT/SPLIT/masks/00000.png                0 for ground, 1 to 10 for the classes in alphabetical order
    OUT/annotations/instances_SPLIT.json     boxes in COCO format

and OUT/classes.txt. The masks are exact, and they are masks of what was pasted: an ellipse, a rounded square or an uneven disc out
of a CIFAR-10 picture, with what of the picture's own background lies in it. They do not follow the animal's or the ship's outline,
which CIFAR-10 does not have. So a network must find round things that are no ground, and tell from the photograph in each what
class it is. Train and val take pictures of CIFAR-10's train split that do not meet, test those of its test split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from triaxis.data.scenes import Piece, Scene, composed

SPLITS = ("train", "val", "test")
VAL_SHARE = 0.1
"""Share of CIFAR-10's train pictures that val is made of."""

SIZES = (0.25, 0.6)
"""Sides of the pasted pictures, in shares of the scene's."""

MOST = 4
"""Pictures in a scene."""


def pictures_of(root: Path, classes: Sequence[str], split: str) -> dict[str, list[Path]]:
    """Return the pictures of each class that a split may use."""
    folder = root / ("test" if split == "test" else "train")
    found = {name: sorted((folder / name).glob("*.png")) + sorted((folder / name).glob("*.jpg")) for name in classes}
    if lacking := [name for name, paths in found.items() if len(paths) < 2]:
        raise SystemExit(f"error: {folder} must hold folders of pictures, got none for {', '.join(lacking)}.")
    if split == "test":
        return found
    held = {name: max(1, round(VAL_SHARE * len(paths))) for name, paths in found.items()}
    return {name: paths[-held[name] :] if split == "val" else paths[: -held[name]] for name, paths in found.items()}


def shape_of(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return (size, size) booleans: an ellipse, a rounded square, or a disc with an uneven edge."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    kind = rng.integers(3)
    if kind == 0:
        return (x / rng.uniform(0.7, 1)) ** 2 + (y / rng.uniform(0.7, 1)) ** 2 <= 1
    if kind == 1:
        return np.abs(x) ** 4 + np.abs(y) ** 4 <= rng.uniform(0.7, 1) ** 4
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    edge = sum(rng.uniform(0, 0.12) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    return radius <= 0.85 * (1 + edge)


def piece_of(rng: np.random.Generator, path: Path, label: int, side_px: int) -> Piece:
    """Return a picture at a random size, cut to a random shape whose edge is soft for half a pixel."""
    size = max(8, round(rng.uniform(*SIZES) * side_px))
    with Image.open(path) as opened:
        picture = opened.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shape = shape_of(rng, size)
    soft = Image.fromarray((255 * shape).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))
    return Piece(np.asarray(picture, dtype=float), np.asarray(soft, dtype=float) / 255, shape, label)


def scene_of(rng: np.random.Generator, pictures: dict[str, list[Path]], side_px: int) -> Scene:
    """Return a scene of one to four pictures; every class is as likely as any other."""
    names, pieces = list(pictures), []
    for _ in range(rng.integers(1, MOST + 1)):
        label = int(rng.integers(len(names)))
        paths = pictures[names[label]]
        pieces.append(piece_of(rng, paths[rng.integers(len(paths))], label + 1, side_px))
    return composed(rng, side_px, pieces)


def write_split(out: Path, split: str, scenes: Sequence[Scene], classes: Sequence[str]) -> None:
    """Write pictures, masks and boxes of a split."""
    for folder in ("images", "masks"):
        (out / split / folder).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, scene in enumerate(scenes):
        name, side = f"{number:05d}.png", scene.mask.shape[0]
        Image.fromarray(scene.pixels).save(out / split / "images" / name)
        Image.fromarray(scene.mask).save(out / split / "masks" / name)
        images.append({"id": number, "file_name": name, "width": side, "height": side})
        for label, left, top, right, bottom in scene.boxes.tolist():
            box = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    (out / "annotations").mkdir(exist_ok=True)
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (out / "annotations" / f"instances_{split}.json").write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the data set; the same seed makes the same files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cifar10", type=Path, help="class folders under train/ and test/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=96, help="side of a scene in pixels")
    parser.add_argument("--num", type=int, nargs=3, default=[2000, 400, 600], metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--classes", nargs="+", help="some of CIFAR-10's classes; all, if not given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    train = options.cifar10 / "train"
    classes = sorted(options.classes or (entry.name for entry in train.iterdir() if entry.is_dir()) if train.is_dir() else ())
    if not classes:
        parser.error(f"{train} must hold a folder of pictures for each class")
    for number, (split, num) in enumerate(zip(SPLITS, options.num, strict=True)):
        rng, pictures = np.random.default_rng([options.seed, number]), pictures_of(options.cifar10, classes, split)
        write_split(options.out, split, [scene_of(rng, pictures, options.side) for _ in range(num)], classes)
    (options.out / "classes.txt").write_text("\n".join(["ground", *classes]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
