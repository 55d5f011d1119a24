"""Data sets of the user's own: what they may be, and one sentence for what they may not; test stays sealed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from triaxis.data.datasets import from_datasets, labels_of
from triaxis.data.images import Preprocess, ResidentImages, Sealed, Splits
from triaxis.errors import ConfigError, DataError


def pairs(num: int = 6, *, labels: torch.Tensor | None = None, images: torch.Tensor | None = None) -> TensorDataset:
    images = torch.zeros(num, 3, 8, 8) if images is None else images
    return TensorDataset(images, torch.arange(num) % 3 if labels is None else labels)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(pairs())


Y = torch.arange(6) % 3


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (pairs(labels=Y + 0.5), r"labels of the train split must be whole numbers from 0, got 0\.5"),
        (pairs(labels=torch.full((6,), float("nan"))), "whole numbers from 0, got nan"),
        (pairs(labels=torch.eye(6)), r"whole numbers from 0, got a tensor of shape \(6,\)"),
        (pairs(labels=Y - 1), r"got -1\.\.1 in the train split"),
        ([(torch.zeros(3, 8, 8), "3")] * 4, "whole numbers from 0, got '3'"),
        (pairs(images=torch.zeros(6, 3, 8, 8, dtype=torch.int64)), "must be uint8 pixels in 0..255, or floating point .* got int64"),
        (pairs(images=torch.zeros(6, 3, 8, 8, dtype=torch.bool)), "got bool"),
        (TensorDataset(torch.zeros(6, 3, 8, 8), Y, Y), r"must be a pair \(image, label\), got a tuple of 3"),
        ([{"image": torch.zeros(3, 8, 8), "label": 0}] * 4, "must be a pair .* got a dict of 2"),
        (torch.zeros(6, 3, 8, 8), "map-style data set of .* got Tensor: .*TensorDataset"),
        (np.zeros((6, 3, 8, 8)), "got ndarray"),
        (7, "train split must be a map-style data set .* got int"),
        (Stream(), "got Stream"),
        (DataLoader(Stream()), "got Stream"),
        (None, "train split .* got NoneType: hold some images back for train"),
        ([], "train split must hold at least one image"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(train, words):
    with pytest.raises(DataError, match=words):
        from_datasets(train, pairs(), pairs())


def test_labels_may_be_any_whole_numbers():
    for labels in (Y.float(), Y.to(torch.uint8), Y > 0):
        assert from_datasets(pairs(labels=labels), pairs(), pairs()).train.labels.dtype == torch.int64
    assert from_datasets([(torch.zeros(3, 8, 8), np.int64(2))], pairs(), pairs()).train.labels.tolist() == [2]


def test_splits_of_two_types_are_refused():
    pixels = pairs(images=torch.zeros(6, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(DataError, match="of one type, got uint8 and float32"):
        from_datasets(pixels, pairs(), pairs())


def test_the_data_set_of_a_loader_is_taken(caplog):
    splits = from_datasets(*(DataLoader(pairs(), batch_size=2, shuffle=True) for _ in range(3)))
    assert len(splits.train) == 6 and len(splits.test.open()) == 6
    assert "of the train DataLoader only its data set is used" in caplog.text


class Forbidden(torch.utils.data.Dataset):
    """Fails when an image is looked at."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int):
        raise AssertionError("the test split was opened")


class Eyes(list):
    """A picture that must not be looked at."""

    def __getattr__(self, name):
        raise AssertionError("the test split was opened")


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (None, "test split .* got NoneType: hold some images back for test"),
        ([], "test split must hold at least one image"),
        (pairs(labels=Y + 4), r"Labels must be in 0\.\.2 for 3 classes, got 4\.\.6 in the test split"),
        (pairs(labels=Y + 0.5), r"labels of the test split must be whole numbers from 0, got 0\.5"),
        (Subset(pairs(labels=Y * 2), [0, 1, 2]), r"got 0\.\.4 in the test split"),
        (ConcatDataset([pairs(), pairs(labels=Y - 1)]), r"got -1\.\.2 in the test split"),
        ([(Eyes(), 3)], r"got 3\.\.3 in the test split"),
        ([(Eyes(), "cat")], "test split must be whole numbers from 0, got 'cat'"),
    ],
)
def test_a_bad_test_split_is_said_before_training_without_a_look_at_its_images(test, words):
    with pytest.raises(DataError, match=words):
        from_datasets(pairs(), pairs(), test)


def test_test_images_are_not_looked_at():
    splits = from_datasets(pairs(), pairs(), Forbidden())
    assert splits.test.labels is None and splits.test.times_opened == 0
    assert from_datasets(pairs(), pairs(), [(Eyes(), 1)]).test.labels.tolist() == [1]


def test_labels_are_had_alone_from_torchvisions_own_data_sets_only():
    from torchvision.datasets import FakeData
    from torchvision.datasets.vision import StandardTransform

    class Own(FakeData):
        targets = ("a",) * 6

    made = FakeData(6)
    made.targets = [0, 1, 2, 0, 1, 2]
    assert labels_of(made) == made.targets
    made.transforms = StandardTransform(lambda x: x)  # changes images only
    assert labels_of(made) == made.targets
    made.target_transform = lambda y: y + 1
    assert labels_of(made) is None and labels_of(Own(6)) is None


def test_splits_made_by_hand_are_checked_too():
    images = ResidentImages(torch.zeros(6, 3, 8, 8), Y, 3, Preprocess())
    with pytest.raises(DataError, match=r"must be sealed, as .* got NoneType"):
        Splits(train=images, val=images, test=None)
    with pytest.raises(DataError, match=r"got 3\.\.3 in the test split"):
        Splits(train=images, val=images, test=Sealed(lambda: images, labels=torch.tensor([3])))


def test_how_floats_were_normalised_is_known_only_if_said():
    assert from_datasets(pairs(), pairs(), pairs()).train.preprocess.mean is None
    said = from_datasets(pairs(), pairs(), pairs(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)).train
    assert (said.preprocess.mean, said.preprocess.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert torch.equal(next(iter(said.in_order(8))).images, torch.zeros(6, 3, 8, 8))  # they are not normalised twice
    with pytest.raises(ConfigError, match="number for each of the 3 channels of the images, got 1"):
        from_datasets(pairs(), pairs(), pairs(), mean=(0.5,), std=(0.5,))


def test_pil_pictures_are_normalised_as_said():
    picture = [(Image.new("RGB", (8, 8), (51, 51, 51)), 0)]
    images = from_datasets(picture, picture, picture, num_classes=2, mean=(0.1,) * 3, std=(0.1,) * 3).train
    assert torch.allclose(next(iter(images.in_order(8))).images, torch.ones(1, 3, 8, 8), atol=1e-5)
