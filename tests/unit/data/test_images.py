"""Images in memory: what an epoch shows, and that it is the same pictures whatever the resolution."""

from __future__ import annotations

import pytest
import torch

from triaxis.data.datasets import from_datasets
from triaxis.data.images import Preprocess, ResidentImages, Sealed, resize
from triaxis.errors import ConfigError, DataError
from triaxis.values import Recipe

PLAIN = Preprocess(mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
"""Leaves pixels as they are."""


def numbered(count: int = 40, side: int = 8) -> ResidentImages:
    """Images whose pixels are all their own number."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, side, side).contiguous()
    return ResidentImages(images, torch.arange(count) % 4, 4, PLAIN)


def test_an_epoch_shows_every_image_once_with_its_label_and_index():
    seen = []
    for batch in numbered().epoch(8, Recipe(batch_size=8, crop_px=0), seed=1, epoch=0):
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.indices)
        assert torch.equal(batch.labels, batch.indices % 4)
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(40)) and seen != list(range(40))


def test_epochs_depend_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        return [i for b in numbered().epoch(8, Recipe(batch_size=8), seed=seed, epoch=epoch) for i in b.indices.tolist()]

    assert order(3, 1) == order(3, 1)
    assert order(3, 1) != order(3, 2) and order(3, 1) != order(4, 1)


def test_crop_and_flip_place_the_padded_picture():
    picture = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(16, 3, 8, 8).contiguous()
    data = ResidentImages(picture, torch.zeros(16), 2, PLAIN)
    padded = torch.nn.functional.pad(picture[:1, :1].float(), (2, 2, 2, 2), mode="reflect")[0, 0]
    windows = {tuple(w.flatten().tolist()) for i in range(5) for j in range(5) for w in (padded[i : i + 8, j : j + 8],)}
    flipped = {tuple(torch.tensor(w).view(8, 8).flip(1).flatten().tolist()) for w in windows}
    found = [b.images[:, 0] for e in range(4) for b in data.epoch(8, Recipe(batch_size=16, crop_px=2), seed=0, epoch=e)]
    shown = {tuple(w.round().flatten().tolist()) for batch in found for w in batch}
    assert shown <= windows | flipped
    assert shown & windows and shown & (flipped - windows) and len(shown) > 20


def test_a_smaller_side_shows_the_same_pictures_resized():
    data = ResidentImages(torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8), torch.zeros(16), 2, PLAIN)
    recipe = Recipe(batch_size=16, crop_px=2)
    large, small = (next(iter(data.epoch(side, recipe, seed=5, epoch=0))) for side in (16, 12))
    assert torch.equal(large.indices, small.indices)
    assert (resize(large.images, 12) - small.images).abs().max() <= 1.001  # rounding of pixels to whole numbers


def test_larger_stored_images_are_cropped_in_the_middle_for_evaluation():
    images = torch.zeros(4, 3, 10, 10, dtype=torch.uint8)
    images[:, :, 1:9, 1:9] = 7
    data = ResidentImages(images, torch.zeros(4), 2, PLAIN, side_px=8)
    batch = next(iter(data.in_order(8)))
    assert batch.images.shape == (4, 3, 8, 8) and batch.images.round().unique().tolist() == [7]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(0, 3, 4, 4), torch.zeros(0), "at least one image"),
        (torch.zeros(3, 3, 4, 4), torch.tensor([0, 1, 4]), "0..3 for 4 classes, got 0..4"),
        (torch.zeros(3, 3, 4, 4), torch.tensor([0, -1, 1]), "got -1..1"),
        (torch.zeros(3, 3, 4, 4), torch.zeros(2), "one label for each image"),
        (torch.zeros(3, 3, 4, 4), torch.tensor([0.0, 1.5, 1.0]), r"whole numbers from 0, got 1\.5"),
        (torch.zeros(3, 3, 4, 4, dtype=torch.int64), torch.zeros(3), "uint8 pixels in 0..255, or floating point .* got int64"),
    ],
)
def test_unusable_splits_are_refused_in_one_sentence(images, labels, words):
    with pytest.raises(DataError, match=words):
        ResidentImages(images, labels, 4, PLAIN)


def test_fewer_images_than_a_batch_is_refused():
    with pytest.raises(DataError, match="at least one batch of 64 images, got 40"):
        next(iter(numbered().epoch(8, Recipe(batch_size=64), seed=0, epoch=0)))


def test_fingerprints_change_with_a_pixel_or_a_label():
    data = numbered()
    pixel = data.images.clone()
    pixel[3, 0, 0, 0] += 1
    label = data.labels.clone()
    label[0] = 3
    prints = {
        data.fingerprint(),
        ResidentImages(pixel, data.labels, 4, PLAIN).fingerprint(),
        ResidentImages(data.images, label, 4, PLAIN).fingerprint(),
    }
    assert len(prints) == 3 and numbered().fingerprint() in prints


def test_a_sealed_split_counts_its_openings():
    sealed = Sealed(numbered)
    assert sealed.times_opened == 0
    sealed.open()
    assert sealed.times_opened == 1


def test_the_users_own_data_sets_become_splits_and_test_is_not_touched():
    class Own(torch.utils.data.Dataset):
        def __init__(self, count: int, forbidden: bool = False) -> None:
            self.count, self.forbidden = count, forbidden

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, index: int):
            assert not self.forbidden
            return torch.full((3, 8, 8), index % 200, dtype=torch.uint8), index % 3

    splits = from_datasets(Own(30), Own(9), Own(9, forbidden=True))
    assert (len(splits.train), len(splits.val), splits.train.num_classes, splits.train.side_px) == (30, 9, 3, 8)
    assert splits.test.times_opened == 0


def test_a_crop_that_reaches_beyond_the_mirrored_picture_is_refused():
    for crop_px in (7, 8):
        recipe = Recipe(batch_size=8, crop_px=crop_px)
        if crop_px == 7:
            assert len(list(numbered().epoch(8, recipe, seed=0, epoch=0))) == 5
        else:
            with pytest.raises(ConfigError, match="crop_px must be smaller than the side of the data split's images, 8 px, got 8"):
                next(iter(numbered().epoch(8, recipe, seed=0, epoch=0)))


def test_randaugment_is_refused_where_there_are_no_pixels():
    floats = ResidentImages(torch.zeros(8, 3, 8, 8), torch.zeros(8), 2, PLAIN)
    with pytest.raises(ConfigError, match="randaugment must be empty where images come normalised"):
        next(iter(floats.epoch(8, Recipe(batch_size=8, randaugment="2,9"), seed=0, epoch=0)))


def test_the_strongest_randaugment_works_and_a_stronger_one_is_no_recipe():
    torch.manual_seed(0)
    assert len(list(numbered().epoch(8, Recipe(batch_size=8, randaugment="4,30"), seed=0, epoch=0))) == 5
    with pytest.raises(ConfigError, match="magnitude of at most 30, or be empty, got '2,31'"):
        Recipe(randaugment="2,31")
