"""Pictures that are not 8 bits: scaled alike from files and from PIL images, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from triaxis.data.datasets import from_datasets
from triaxis.data.images import Preprocess
from triaxis.data.pictures import PictureFiles, decode, readable, square
from triaxis.errors import DataError

DEEP = Image.fromarray(np.full((8, 8), 257 * 100, dtype=np.uint16))
FLOAT = Image.fromarray(np.full((8, 8), 0.4, dtype=np.float32))
CLEAR = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
RANGE_UNKNOWN = [
    (Image.fromarray(np.full((8, 8), 90.0, dtype=np.float32)), "floats of unknown range, 90 to 90"),
    (Image.fromarray(np.full((8, 8), -0.1, dtype=np.float32)), "floats of unknown range"),
    (Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)), "floats of unknown range"),
    (Image.fromarray(np.full((8, 8), 90, dtype=np.int32)), "whole numbers of 32 bits"),
]


@pytest.mark.parametrize(("picture", "colour"), [(DEEP, (100,) * 3), (FLOAT, (102,) * 3), (CLEAR, (255,) * 3)])
def test_a_picture_looks_alike_as_a_file_and_as_an_object(tmp_path, picture, colour):
    suffix = "png" if picture.mode == "RGBA" else "tiff"
    picture.save(tmp_path / f"a.{suffix}")
    assert decode(tmp_path / f"a.{suffix}").getpixel((0, 0)) == colour
    splits = from_datasets([(picture, 0)], [(picture, 0)], [(picture, 0)], num_classes=2)
    assert splits.train.images[0, :, 0, 0].tolist() == list(colour)


@pytest.mark.parametrize(("picture", "words"), RANGE_UNKNOWN)
def test_pixels_of_unknown_range_are_refused_by_name(tmp_path, picture, words):
    picture.save(tmp_path / "bad.tiff")
    with pytest.raises(DataError, match=rf"bad\.tiff: pixels are {words}"):
        readable([tmp_path / "bad.tiff"], skip_bad=False)
    good = Image.new("RGB", (8, 8))
    with pytest.raises(DataError, match=f"of the train split must be readable, but of image 1 the pixels are {words}"):
        from_datasets([(good, 0), (picture, 0)], [(good, 0)], [(good, 0)])


def test_16_bit_png_files_may_open_in_the_mode_of_32(tmp_path):
    DEEP.save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as opened:
        wide = opened.convert("I")
    wide.format = "PNG"  # as older Pillow opens it
    from triaxis.data.pictures import to_rgb

    assert to_rgb(wide).getpixel((0, 0)) == (100, 100, 100)


def test_a_network_of_one_channel_is_given_grey(tmp_path):
    Image.new("RGB", (8, 8), (0, 255, 0)).save(tmp_path / "green.png")
    files = PictureFiles([tmp_path / "green.png"], [0], Preprocess(mean=(0.0,), std=(1.0,)), is_grey=True)
    picture = files.picture(0, 4, (0.5, 0.5), False)
    assert picture.shape == (1, 4, 4) and picture.dtype == torch.uint8
    assert picture.unique().tolist() == [150]  # 0.587 of white


def test_a_large_jpeg_is_decoded_at_about_the_side_that_is_wanted(tmp_path):
    across, down = np.meshgrid(np.linspace(0, 255, 640), np.linspace(0, 255, 480))
    path = tmp_path / "large.jpg"
    Image.fromarray(np.stack([across, down, 255 - across], 2).astype(np.uint8)).save(path, quality=95)
    assert decode(path).size == decode(path, 241).size == (640, 480)  # half would be less than twice the side
    small = decode(path, 60)
    assert small.size == (160, 120)
    whole, quick = (np.asarray(square(picture, 60, "bilinear")).astype(float) for picture in (decode(path), small))
    assert np.abs(whole - quick).mean() < 1 and np.abs(whole - quick).max() < 6, "it shows the same"
