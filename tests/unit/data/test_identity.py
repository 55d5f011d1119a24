"""What a run's images are is told from names, labels and pixels, and what changed is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from triaxis.config import DataConfig
from triaxis.data.datasets import from_datasets
from triaxis.data.identity import differences, identity_of
from triaxis.data.sources import load_splits


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label in ("cat", "dog"):
            for number in range(count):
                path = tmp_path / "photos" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (number, 40 * number, 0)).save(path)
    return tmp_path / "photos"


def identity(photos: Path, memory: str = "resident") -> dict:
    splits = load_splits(DataConfig(source=f"imagefolder:{photos}", side_px=8, memory=memory))
    found = identity_of(splits)
    assert splits.test.times_opened == 0
    return json.loads(json.dumps(found))


def test_the_same_images_are_the_same_however_they_are_read(photos):
    assert differences(identity(photos), identity(photos, "stream")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "train/cat/0.png").rename(root / "train/cat/9.png"), ["the train split has other files"]),
        (lambda root: Image.new("RGB", (8, 8)).save(root / "val/dog/1.png"), ["the val split has other files"]),
        (lambda root: (root / "test/cat/0.png").rename(root / "test/dog/9.png"), ["the test split has other files"]),
        (lambda root: (root / "train/cat/0.png").unlink(), ["the train split had 8 images and has 7"]),
        (
            lambda root: [(root / split / "dog").rename(root / split / "emu") for split in ("train", "val", "test")],
            ["the classes are without dog and with emu now", *(f"the {s} split has other files" for s in ("train", "val", "test"))],
        ),
    ],
)
def test_a_changed_folder_is_told(photos, change, said):
    before = identity(photos)
    change(photos)
    assert differences(before, identity(photos)) == said


PIXELS = torch.arange(12).view(12, 1, 1, 1).expand(12, 3, 4, 4).to(torch.uint8).contiguous()
LABELS = torch.arange(12) % 3


def made(pixels=PIXELS, labels=LABELS, test_labels=LABELS) -> dict:
    train = TensorDataset(pixels, labels)
    return identity_of(from_datasets(train, TensorDataset(PIXELS, LABELS), TensorDataset(PIXELS, test_labels), num_classes=4))


def test_changed_pixels_and_labels_in_memory_are_told():
    other = PIXELS.clone()
    other[0, 0, 0, 0] = 99
    assert differences(made(), made()) == []
    assert differences(made(), made(pixels=other)) == ["the train split has other pixels"]
    assert differences(made(), made(labels=LABELS.flip(0))) == ["the train split has other labels"]
    assert differences(made(), made(test_labels=LABELS.flip(0))) == ["the test split has other labels"]


def test_classes_without_names_are_counted_and_their_order_counts():
    assert differences({"num_classes": 3}, {"num_classes": 4}) == ["there were 3 classes and are 4"]
    assert differences({"class_names": ["a", "b"]}, {"class_names": ["b", "a"]}) == ["the classes are in another order now"]


def test_what_one_of_two_does_not_know_is_no_difference():
    without_test = {key: value for key, value in made().items() if key != "test"}
    assert differences(without_test, made()) == differences(made(), without_test) == []
