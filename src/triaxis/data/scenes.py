"""Scenes: objects pasted on textured ground, with the class of each pixel and the box of each object, exact since they are made.

`digit_scenes` pastes the embedded digits, for demos and tests that fetch nothing. `benchmarks/data/scenes.py` pastes photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from triaxis.data.digits import LEVELS, load_digits

GROUND = 0
"""The class of the ground; those of objects follow."""

OCTAVES = (2, 4, 8, 16)
"""Cells along a side of the noises that a ground is made of."""

LEAST_VISIBLE = 0.25
"""An object of which other objects hide more than the rest has no box; its pixels keep its class."""

INKED = 0.4
"""Share of the darkest ink from which a pixel belongs to a digit."""


@dataclass(frozen=True)
class Piece:
    """An object to paste: `pixels` (h, w, 3) in [0, 255], `cover` (h, w) in [0, 1], `shape` (h, w) true where it is, and its class."""

    pixels: np.ndarray
    cover: np.ndarray
    shape: np.ndarray
    label: int


@dataclass(frozen=True)
class Scene:
    """`pixels` (S, S, 3) uint8, `mask` (S, S) uint8 class numbers, `boxes` (M, 5): class, left, top, right, bottom in pixels."""

    pixels: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray


def texture(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Return a ground (side, side, 3) of colours in [0, 255]: noises of falling size, around a colour of its own."""
    ground = np.zeros((side_px, side_px, 3))
    for cells in OCTAVES:
        noise = (255 * rng.random((cells, cells, 3))).astype(np.uint8)
        large = np.asarray(Image.fromarray(noise).resize((side_px, side_px), Image.Resampling.BICUBIC), dtype=float)
        ground += (large - 127.5) * rng.uniform(0.1, 1.0) * (2 / cells) ** 0.5
    return (rng.uniform(60, 195, 3) + rng.uniform(0.3, 0.9) * ground).clip(0, 255)


def composed(rng: np.random.Generator, side_px: int, pieces: Sequence[Piece]) -> Scene:
    """Return a scene with all pieces at random places wholly inside; later ones hide what is below them."""
    pixels, owner = texture(rng, side_px), np.zeros((side_px, side_px), dtype=int)
    for number, piece in enumerate(pieces, 1):
        height, width = piece.shape.shape
        top, left = rng.integers(0, side_px - height + 1), rng.integers(0, side_px - width + 1)
        place = slice(top, top + height), slice(left, left + width)
        cover = piece.cover[:, :, None]
        pixels[place] = (1 - cover) * pixels[place] + cover * piece.pixels
        owner[place][piece.shape] = number
    labels = np.array([GROUND, *(piece.label for piece in pieces)], dtype=np.uint8)
    boxes = [
        _box(owner == number, piece.label)
        for number, piece in enumerate(pieces, 1)
        if (owner == number).sum() >= LEAST_VISIBLE * piece.shape.sum()
    ]
    return Scene(pixels.round().astype(np.uint8), labels[owner], np.array(boxes, dtype=np.int64).reshape(-1, 5))


def _box(is_seen: np.ndarray, label: int) -> tuple[int, int, int, int, int]:
    rows, columns = np.flatnonzero(is_seen.any(1)), np.flatnonzero(is_seen.any(0))
    return label, int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def digit_scenes(num: int, *, side_px: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> list[Scene]:
    """Return scenes of one to three digits; the class of a digit is its number plus 1.

    Args:
        num: Scenes.
        side_px: Side in pixels; digits are 0.3 to 0.6 of it high.
        seed: The same seed makes the same scenes.
        part: Shares of the 1,797 digits, from and to, that are used: splits of different digits have parts that do not meet.
    """
    images, labels = load_digits()
    first, last = (round(share * len(labels)) for share in part)
    rng = np.random.default_rng([seed, first, last])
    scenes = []
    for _ in range(num):
        chosen = rng.integers(first, last, rng.integers(1, 4))
        scenes.append(composed(rng, side_px, [_digit(rng, images[i], int(labels[i]) + 1, side_px) for i in chosen]))
    return scenes


def _digit(rng: np.random.Generator, image: np.ndarray, label: int, side_px: int) -> Piece:
    """Return a scanned digit at a random size, in ink of a random colour, dark or light."""
    size = max(8, round(rng.uniform(0.3, 0.6) * side_px))
    grey = Image.fromarray((image * (255 / LEVELS)).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    cover = np.asarray(grey, dtype=float) / 255
    ink = rng.uniform(0, 60, 3) if rng.random() < 0.5 else rng.uniform(195, 255, 3)
    return Piece(np.broadcast_to(ink, (size, size, 3)), cover, cover >= INKED, label)
