"""Image files as uint8 pixels: decoded with their rotation and transparency respected, resized and cropped to a square."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from triaxis.data.images import Preprocess
from triaxis.errors import DataError

log = logging.getLogger(__name__)

RESAMPLE = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
NUM_SHOWN = 20

FORMATS_OF_16_BITS = frozenset({"PNG", "PPM", "JPEG2000"})
"""File formats whose mode `I` holds 16 bits; elsewhere it holds 32, of which nobody knows how many are used."""


def decode(path: Path) -> Image.Image:
    """Return an RGB picture, turned as its EXIF says; see `to_rgb` for the rest.

    Raises:
        ValueError: Its kind of pixels cannot be read.
        OSError: The file cannot be read.
    """
    with Image.open(path) as opened:
        ImageOps.exif_transpose(opened, in_place=True)
        return to_rgb(opened)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return a picture as 8-bit RGB: grey repeated in three channels, 16 bits and floats scaled, transparency laid on white.

    Args:
        picture: Of any of Pillow's modes; grey of 16 bits is taken as 0..65535, grey of floats as [0, 1].

    Raises:
        ValueError: The range of its pixels is not known, or Pillow has no conversion.
    """
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layers = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = Image.fromarray((_share_of_white(picture) * 255).clip(0, 255).astype(np.uint8))
    return picture.convert("RGB")


def _share_of_white(picture: Image.Image) -> np.ndarray:
    """Return (H, W) in [0, 1] of a grey picture that has more than 8 bits, which Pillow would clip instead of scaling."""
    pixels = np.asarray(picture, dtype=np.float64)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in FORMATS_OF_16_BITS):
        return pixels / 65535
    low, high = pixels.min(), pixels.max()
    if picture.mode == "I":
        raise ValueError(f"pixels are whole numbers of 32 bits, {low:g} to {high:g}, of unknown range: save it with 8 or 16 bits")
    if not (low >= 0 and high <= 1):
        raise ValueError(f"pixels are floats of unknown range, {low:g} to {high:g}: scale them to [0, 1], or save it with 8 or 16 bits")
    return pixels


def square(picture: Image.Image, side_px: int, interpolation: str) -> Image.Image:
    """Return the picture resized so that its shorter side is `side_px`, and cropped to the middle square."""
    return ImageOps.fit(picture, (side_px, side_px), RESAMPLE.get(interpolation, Image.Resampling.BILINEAR))


def to_tensor(picture: Image.Image) -> Tensor:
    """Return (3, H, W) uint8 of an RGB picture, (1, H, W) of a grey one."""
    return torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1)


class PictureFiles:
    """Labelled image files, decoded on demand; what `StreamedImages` reads from.

    Args:
        paths: The files.
        labels: One class number per file.
        preprocess: Its crop fraction and interpolation are used here.
        is_grey: Whether the network takes one channel; `picture` then gives grey.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], preprocess: Preprocess, *, is_grey: bool = False) -> None:
        self.paths, self.preprocess = list(paths), preprocess
        self.labels: Tensor | None = torch.tensor(labels, dtype=torch.int64)
        self.is_grey = is_grey

    def __len__(self) -> int:
        return len(self.paths)

    def identity(self) -> list[tuple[str, int, int]]:
        """Return name, length and label of each file."""
        assert self.labels is not None
        return [(p.name, p.stat().st_size, int(y)) for p, y in zip(self.paths, self.labels, strict=True)]

    def stored_side(self, side_px: int) -> int:
        """Return the side from which a crop of `side_px` is taken."""
        return round(side_px / self.preprocess.crop_fraction)

    def picture(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> Tensor:
        """Return a (C, side_px, side_px) uint8 crop; offset in [0, 1]^2 places it, (0.5, 0.5) is the centre."""
        stored = self.stored_side(side_px)
        picture = square(decode(self.paths[index]), stored, self.preprocess.interpolation)
        if self.is_grey:
            picture = picture.convert("L")
        top, left = (round(place * (stored - side_px)) for place in offset)
        crop = to_tensor(picture)[:, top : top + side_px, left : left + side_px]
        return crop.flip(2) if flip else crop

    def decode_all(self, side_px: int) -> Tensor:
        """Return (N, 3, S, S) uint8, S = stored side; decoding runs in threads."""
        side = self.stored_side(side_px)
        images = torch.empty(len(self), 3, side, side, dtype=torch.uint8)

        def put(index: int) -> None:
            images[index] = to_tensor(square(decode(self.paths[index]), side, self.preprocess.interpolation))

        with ThreadPoolExecutor() as pool:
            list(pool.map(put, range(len(self))))
        return images


def readable(
    paths: Sequence[Path],
    skip_bad: bool,
    *,
    checked: MutableMapping[str, str] | None = None,
    advice: str = "repair or remove them, or set data.skip_bad: true",
) -> dict[Path, str]:
    """Return the files that can be decoded, each with a digest of its bytes.

    Args:
        paths: Picture files.
        skip_bad: Leave out those that cannot, with a warning.
        checked: What is known of files that were decoded without fault before, which are not opened again: the digest of each by a
            mark that changes with it. Today's are added.
        advice: What the user can do about a bad file.

    Raises:
        DataError: Some cannot and `skip_bad` is false; the message lists them.
    """
    known: MutableMapping[str, str] = {} if checked is None else checked
    digests: dict[Path, str] = {}

    def fault(path: Path) -> str | None:
        try:
            if path.stat().st_size == 0:
                return "empty file"
            mark = mark_of(path)
            if mark not in known:
                decode(path)
                known[mark] = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
            digests[path] = known[mark]
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return str(error).partition("\n")[0].replace(str(path), "file")
        return None

    with ThreadPoolExecutor() as pool:
        faults = {path: text for path, text in zip(paths, pool.map(fault, paths), strict=True) if text}
    if faults:
        shown = "".join(f"\n  {path}: {text}" for path, text in list(faults.items())[:NUM_SHOWN])
        more = f"\n  and {len(faults) - NUM_SHOWN} more" if len(faults) > NUM_SHOWN else ""
        if not skip_bad:
            raise DataError(f"Every image must be readable, got {len(faults)} of {len(paths)} that are not; {advice}:{shown}{more}")
        log.warning("left out %d of %d images that cannot be read:%s%s", len(faults), len(paths), shown, more)
    return digests


def mark_of(path: Path) -> str:
    """Return 16 hexadecimal characters that change when a file is replaced or written to: over its place, length and time."""
    found = path.stat()
    return hashlib.blake2b(f"{os.path.abspath(path)}\0{found.st_size}\0{found.st_mtime_ns}".encode(), digest_size=8).hexdigest()
