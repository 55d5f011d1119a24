"""Image files as uint8 pixels: decoded with their rotation and transparency respected, resized and cropped to a square."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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


def decode(path: Path) -> Image.Image:
    """Return an RGB picture: turned as its EXIF says, grey ones repeated in three channels, transparency laid on white."""
    with Image.open(path) as opened:
        ImageOps.exif_transpose(opened, in_place=True)
        picture: Image.Image = opened
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            layers = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
        if picture.mode.startswith("I"):
            # 16-bit grey: Pillow would clip instead of scaling.
            picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
        return picture.convert("RGB")


def square(picture: Image.Image, side_px: int, interpolation: str) -> Image.Image:
    """Return the picture resized so that its shorter side is `side_px`, and cropped to the middle square."""
    return ImageOps.fit(picture, (side_px, side_px), RESAMPLE.get(interpolation, Image.Resampling.BILINEAR))


def to_tensor(picture: Image.Image) -> Tensor:
    """Return (3, H, W) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


class PictureFiles:
    """Labelled image files, decoded on demand; what `StreamedImages` reads from.

    Args:
        paths: The files.
        labels: One class number per file.
        preprocess: Its crop fraction and interpolation are used here.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], preprocess: Preprocess) -> None:
        self.paths, self.labels, self.preprocess = list(paths), torch.tensor(labels, dtype=torch.int64), preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def identity(self) -> list[tuple[str, int, int]]:
        """Return name, length and label of each file."""
        return [(p.name, p.stat().st_size, int(y)) for p, y in zip(self.paths, self.labels, strict=True)]

    def stored_side(self, side_px: int) -> int:
        """Return the side from which a crop of `side_px` is taken."""
        return round(side_px / self.preprocess.crop_fraction)

    def picture(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> Tensor:
        """Return a (3, side_px, side_px) uint8 crop; offset in [0, 1]^2 places it, (0.5, 0.5) is the centre."""
        stored = self.stored_side(side_px)
        picture = square(decode(self.paths[index]), stored, self.preprocess.interpolation)
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


def readable(paths: Sequence[Path], skip_bad: bool) -> set[Path]:
    """Return the files that can be decoded.

    Raises:
        DataError: Some cannot and `skip_bad` is false; the message lists them.
    """

    def fault(path: Path) -> str | None:
        try:
            if path.stat().st_size == 0:
                return "empty file"
            decode(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return str(error).partition("\n")[0].replace(str(path), "file")
        return None

    with ThreadPoolExecutor() as pool:
        faults = {path: text for path, text in zip(paths, pool.map(fault, paths), strict=True) if text}
    if faults:
        shown = "".join(f"\n  {path}: {text}" for path, text in list(faults.items())[:NUM_SHOWN])
        more = f"\n  and {len(faults) - NUM_SHOWN} more" if len(faults) > NUM_SHOWN else ""
        if not skip_bad:
            raise DataError(
                f"Every image must be readable, got {len(faults)} of {len(paths)} that are not; "
                f"repair or remove them, or set data.skip_bad: true:{shown}{more}"
            )
        log.warning("left out %d of %d images that cannot be read:%s%s", len(faults), len(paths), shown, more)
    return set(paths) - set(faults)
