"""Folders of pictures with masks: which layouts are read, that both are shown alike, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from triaxis.config import DataConfig
from triaxis.data.images import Splits
from triaxis.data.sources import load_splits
from triaxis.errors import DataError
from triaxis.tasks import Task, make_task
from triaxis.values import Recipe

TASK = make_task("segmentation")
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def write(root: Path, images: str, masks: str, num: int, *, size: tuple[int, int] = (24, 16), first: int = 0) -> None:
    """Write pictures whose red is 20 times the class of the pixel, and their masks of 4 classes and 255."""
    for folder in (images, masks):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(first, first + num):
        rng = np.random.default_rng(number)
        mask = rng.integers(0, 4, (size[1] // 4, size[0] // 4)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        picture = np.zeros((*mask.shape, 3), dtype=np.uint8)
        picture[:, :, 0] = 20 * mask
        mask[0, size[0] // 2] = 255
        Image.fromarray(picture).save(root / images / f"{number}.png")
        Image.fromarray(mask).save(root / masks / f"{number}.png")


def opened(root: Path, task: Task = TASK, **settings: object) -> Splits:
    return load_splits(DataConfig(source=f"masks:{root}", **{**PLAIN, **settings}), task=task)  # type: ignore[arg-type]


def agree(images: torch.Tensor, masks: torch.Tensor) -> bool:
    """Whether each picture's red says the class of its mask, as `write` made them."""
    shown = (images[:, 0] * 255 / 20).round().long()
    return bool(((shown == masks.long()) | (masks == 255)).all())


@pytest.mark.parametrize("layout", ["{split}/images {split}/masks", "images/{split} masks/{split}", "Imgs/{split} labels/{split}"])
def test_splits_are_found_in_both_layouts(tmp_path: Path, layout: str) -> None:
    for split, num in (("train", 6), ("valid", 3), ("test", 2)):
        write(tmp_path, *layout.format(split=split).split(), num)
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\ntree\nnone of these\n")
    splits = opened(tmp_path)
    assert [len(splits.train), len(splits.val), len(splits.test.open())] == [6, 3, 2]
    assert splits.train.num_classes == 5 and splits.class_names[1] == "road" and splits.train.side_px == 16
    assert splits.train.labels is not None and splits.train.labels.shape == (6, 16, 16) and splits.train.labels.dtype == torch.uint8


def test_splits_that_are_not_there_are_drawn_and_do_not_meet(tmp_path: Path) -> None:
    write(tmp_path, "images", "masks", 20)
    splits = opened(tmp_path, test_fraction=0.25, val_fraction=0.2)
    assert [len(splits.train), len(splits.val), len(splits.test.open())] == [12, 3, 5]
    pictures = [picture.numpy().tobytes() for part in (splits.train, splits.val, splits.test.open()) for picture in part.images]  # type: ignore[attr-defined]
    assert len(set(pictures)) == 20
    assert opened(tmp_path).digest() == opened(tmp_path).digest() != opened(tmp_path, seed=1).digest()


@pytest.mark.parametrize("memory", ["resident", "stream"])
def test_masks_go_with_their_pictures_through_crops_and_flips(tmp_path: Path, memory: str) -> None:
    write(tmp_path, "images", "masks", 16)
    train = opened(tmp_path, memory=memory, workers=0 if memory == "resident" else 1).train
    assert train.is_resident is (memory == "resident")
    recipe = Recipe(batch_size=4, crop_px=3, flip=True)
    batches = [batch for epoch in range(2) for batch in train.epoch(16, recipe, seed=0, epoch=epoch)]
    assert all(agree(batch.images, batch.labels) for batch in batches)
    (whole,) = train.in_order(16)
    assert agree(whole.images, whole.labels)
    moved = torch.cat([(batch.labels != whole.labels[batch.indices]).flatten(1).any(1) for batch in batches])
    assert moved.any(), "crops and flips changed some mask"
    (small,) = train.in_order(8)
    assert small.images.shape[-1] == 8 and torch.equal(small.labels, whole.labels), "a mask stays at the side of the data"


def test_a_larger_picture_and_its_mask_are_resized_alike(tmp_path: Path) -> None:
    write(tmp_path, "images", "masks", 8, size=(48, 32))
    batch = next(iter(opened(tmp_path, side_px=16, val_fraction=0.2).train.in_order(16)))
    assert batch.labels.shape[1:] == (16, 16) and set(batch.labels.unique().tolist()) <= {0, 1, 2, 3, 255}
    inner = batch.labels[:, 1::4, 1::4]  # blocks of 8 px become 4 px: their middles do not meet a neighbour
    assert ((batch.images[:, 0, 1::4, 1::4] * 255 / 20).round().long() == inner.long()).float().mean() > 0.6


def test_palettes_sixteen_bits_and_black_and_white_hold_class_numbers(tmp_path: Path) -> None:
    write(tmp_path, "images", "masks", 6)
    for number, mode in enumerate(("P", "I;16", "1")):
        path = tmp_path / "masks" / f"{number}.png"
        numbers = np.array(Image.open(path))
        numbers[numbers > 3] = 0
        if mode == "P":
            changed = Image.fromarray(numbers)
            changed.putpalette([7, 9, 11] * 256)
        else:
            changed = Image.fromarray(numbers.astype(np.uint16)) if mode == "I;16" else Image.fromarray(numbers > 1)
        changed.save(path)
        assert Image.open(path).mode == mode
    assert opened(tmp_path, val_fraction=0.2).train.num_classes == 4


def _rgb(root: Path) -> None:
    Image.new("RGB", (24, 16)).save(root / "masks/0.png")


def _large(root: Path) -> None:
    Image.new("L", (25, 16)).save(root / "masks/0.png")


def _missing(root: Path) -> None:
    (root / "masks/0.png").unlink()


def _jpeg(root: Path) -> None:
    (root / "masks/0.png").unlink()
    Image.new("L", (24, 16)).save(root / "masks/0.jpg")


def _beyond(root: Path) -> None:
    (root / "classes.txt").write_text("a\nb\n")


def _binary(root: Path) -> None:
    for path in (root / "masks").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask > 1, 255, 0).astype(np.uint8)).save(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_rgb, r"0\.png: it has 3 channels \(RGB\): save one"),
        (_large, r"it is 25 x 16 px, and its picture 24 x 16"),
        (_missing, r"must have a mask of the same stem in .*, got none for 0\.png"),
        (_jpeg, "a JPEG changes the numbers"),
        (_beyond, "numbers of the 2 classes in .*classes.txt, 0 to 1, .* got 3 in"),
        (_binary, "got only 0 and 255, which counts nowhere: save the number of the class"),
    ],
)
def test_what_is_wrong_is_said_with_its_file(tmp_path: Path, spoil, words: str) -> None:
    write(tmp_path, "images", "masks", 8)
    spoil(tmp_path)
    with pytest.raises(DataError, match=words):
        opened(tmp_path)


def test_bad_files_may_be_left_out_and_good_ones_are_looked_at_once(tmp_path: Path) -> None:
    write(tmp_path, "images", "masks", 9)
    _rgb(tmp_path)
    checked: dict[str, str] = {}
    config = DataConfig(source=f"masks:{tmp_path}", skip_bad=True, **PLAIN)  # type: ignore[arg-type]
    first = load_splits(config, task=TASK, checked=checked)
    assert len(first.train) + len(first.val) + len(first.test.open()) == 8 and len(checked) == 8
    known = dict(checked)
    assert load_splits(config, task=TASK, checked=checked).files == first.files and checked == known
    write(tmp_path, "images", "masks", 1, first=5, size=(24, 20))
    assert load_splits(config, task=TASK, checked=checked).files != first.files, "another picture is another identity"


def test_masks_are_for_segmentation_and_classes_are_not(tmp_path: Path) -> None:
    write(tmp_path, "images", "masks", 8)
    with pytest.raises(DataError, match="set task: segmentation"):
        opened(tmp_path, task=make_task("classification"))
    with pytest.raises(DataError, match="train/images and train/masks"):
        opened(tmp_path / "images")


def test_digit_scenes_are_exact_and_seeded() -> None:
    config = DataConfig(source="digit_scenes", max_train_images=20)
    splits, again = load_splits(config, task=TASK), load_splits(config, task=TASK)
    assert splits.digest() == again.digest() and len(splits.train) == 20 and splits.train.num_classes == 11
    assert splits.train.side_px == 32 and splits.class_names[:2] == ("ground", "0")
    assert splits.train.labels is not None and 0.02 < (splits.train.labels > 0).float().mean() < 0.5
