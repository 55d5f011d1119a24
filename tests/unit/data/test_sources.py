"""Folders of pictures as people have them: grey, transparent, rotated, broken, uneven; and the embedded digits."""

from __future__ import annotations

import logging
import os
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from triaxis.config import DataConfig
from triaxis.data.images import Preprocess, ResidentImages, StreamedImages
from triaxis.data.pictures import decode
from triaxis.data.sources import load_splits
from triaxis.errors import ConfigError, DataError
from triaxis.values import Recipe

ORIENTATION = 0x0112


def paint(path: Path, colour=(200, 30, 30), size=(20, 16), **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **save)
    return path


def paint_splits(root: Path, **counts: int) -> Path:
    """A folder for each split, with that many pictures of each of two classes."""
    for name, count in counts.items():
        for label in ("cat", "dog"):
            for number in range(count):
                paint(root / name / label / f"{number}.png")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, ten pictures each, in one folder per class, of mixed sizes."""
    for number in range(10):
        paint(tmp_path / "red" / f"{number}.png", (200, 30, 20 * number), (16 + number, 20))
        paint(tmp_path / "blue" / f"{number}.jpg", (30, 20 * number, 200), (20, 16 + number))
    return tmp_path


def load(folder: Path, **options):
    options = {"val_fraction": 0.2, "test_fraction": 0.2, "side_px": 8, **options}
    return load_splits(DataConfig(source=f"imagefolder:{folder}", **options))


def test_one_folder_is_split_stratified_and_reproducibly(folder):
    first, second = load(folder), load(folder)
    assert (len(first.train), len(first.val), len(first.test.open())) == (12, 4, 4)
    assert first.digest() == second.digest() != load(folder, seed=5).digest()
    assert first.class_names == ("blue", "red")
    for images in (first.train, first.val, first.test.open()):
        assert images.labels.bincount().tolist() == [len(images) // 2] * 2


def test_splits_do_not_overlap(folder):
    splits = load(folder)
    shown = [tuple(i.flatten().tolist()) for s in (splits.train, splits.val, splits.test.open()) for i in s.images]
    assert len(shown) == 20
    assert len(set(shown)) == 20  # every picture has its own colour


def test_train_val_and_test_folders_are_taken_as_they_are(folder, tmp_path):
    splits = load(paint_splits(tmp_path / "split", train=6, val=2, test=3))
    assert (len(splits.train), len(splits.val), len(splits.test.open())) == (12, 4, 6)


def test_split_folders_are_found_as_people_name_them(folder, tmp_path):
    splits = load(paint_splits(tmp_path / "split", Train=6, validation=2, TEST=3))
    assert splits.class_names == ("cat", "dog")
    assert (len(splits.train), len(splits.val), len(splits.test.open())) == (12, 4, 6)


@pytest.mark.parametrize(("size", "side_px"), [((20, 30), 20), ((300, 200), 224)])
def test_without_a_side_small_pictures_keep_theirs_and_large_ones_come_to_a_usual_one(tmp_path, caplog, size, side_px):
    for label in ("cat", "dog"):
        for number in range(6):
            paint(tmp_path / label / f"{number}.png", size=size)
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, side_px=None).train.side_px == side_px
    assert ("set data.side_px" in caplog.text) == (side_px == 224)


def test_the_normalisation_that_a_model_was_trained_with_can_be_given(folder):
    known = load(folder, mean=(0.5, 0.4, 0.3), std=(0.2, 0.1, 0.3))
    assert (known.train.preprocess.mean, known.train.preprocess.std) == ((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))
    measured = load(folder)
    images = [next(iter(splits.train.in_order(8))).images for splits in (known, measured)]
    pixels = [
        x * torch.tensor(s.train.preprocess.std).view(3, 1, 1) + torch.tensor(s.train.preprocess.mean).view(3, 1, 1)
        for x, s in zip(images, (known, measured), strict=True)
    ]
    assert not torch.allclose(images[0], images[1], atol=0.1)
    assert torch.allclose(pixels[0], pixels[1], atol=1e-4)


def test_labels_follow_the_folders(folder):
    splits = load(folder)
    for image, label in zip(splits.train.images, splits.train.labels, strict=True):
        is_red = image[0].float().mean() > image[2].float().mean()
        assert label == (1 if is_red else 0)


def test_the_classes_found_are_logged(folder, caplog):
    with caplog.at_level(logging.INFO):
        load(folder)
    assert "2 classes: blue, red" in caplog.text


def test_grey_transparent_palette_and_16_bit_pictures_become_rgb(tmp_path):
    Image.new("L", (8, 8), 90).save(tmp_path / "grey.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("P", (8, 8), 3).save(tmp_path / "palette.png")
    Image.fromarray(np.full((8, 8), 257 * 100, dtype=np.uint16)).save(tmp_path / "deep.png")
    found = {path.stem: decode(path) for path in tmp_path.iterdir()}
    assert {p.mode for p in found.values()} == {"RGB"}
    assert found["grey"].getpixel((0, 0)) == (90, 90, 90)
    assert found["clear"].getpixel((0, 0)) == (255, 255, 255)
    assert found["deep"].getpixel((0, 0)) == (100, 100, 100)


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    picture = Image.new("RGB", (12, 6), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 6, 6))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    turned = decode(tmp_path / "turned.png")
    assert turned.size == (6, 12)
    assert turned.getpixel((3, 1)) == (255, 255, 255) and turned.getpixel((3, 10)) == (0, 0, 0)


def test_bad_files_are_all_named_before_the_run_stops(folder):
    (folder / "red" / "empty.png").touch()
    (folder / "red" / "text.jpg").write_text("no picture")
    whole = paint(folder / "blue" / "cut.jpg", size=(300, 300)).read_bytes()
    (folder / "blue" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        load(folder)
    assert all(name in str(caught.value) for name in ("empty.png: empty file", "text.jpg", "cut.jpg", "3 of 23", "skip_bad"))


def test_bad_files_can_be_left_out(folder, caplog):
    (folder / "red" / "empty.png").touch()
    with caplog.at_level(logging.WARNING):
        splits = load(folder, skip_bad=True)
    assert len(splits.train) + len(splits.val) + len(splits.test.open()) == 20
    assert "empty.png" in caplog.text


def test_a_class_without_val_images_is_a_warning_and_without_train_images_an_error(tmp_path, caplog):
    for name, labels in (("train", "ab"), ("val", "a"), ("test", "ab")):
        for label in labels:
            for number in range(4):
                paint(tmp_path / name / label / f"{number}.png")
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path).train.num_classes == 2
    assert "the val split has no images of b" in caplog.text
    paint(tmp_path / "val" / "c" / "0.png")
    with pytest.raises(DataError, match="must have train images, got none for c"):
        load(tmp_path)


def test_a_class_that_loses_all_its_pictures_is_an_error_also_where_bad_ones_may_go(folder):
    for picture in (folder / "red").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match="can be read, got none for red"):
        load(folder, skip_bad=True)


def test_an_empty_test_folder_is_said_before_anything_is_trained(folder, tmp_path):
    root = paint_splits(tmp_path / "split", train=1, val=1)
    (root / "test" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="test split must hold at least one image"):
        load(root)


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        load(tmp_path / "nowhere")
    (tmp_path / "only").mkdir()
    with pytest.raises(DataError, match="at least two classes, got \\['only'\\]"):
        load(tmp_path)


def test_a_class_with_too_few_images_to_split_is_named_by_its_folder(tmp_path):
    for label, count in (("ant", 9), ("bee", 1)):
        for number in range(count):
            paint(tmp_path / label / f"{number}.png")
    with pytest.raises(DataError, match=r"cannot be drawn with some of each class, as these have one image: bee \(1\)"):
        load(tmp_path)


def test_a_file_that_was_checked_is_not_decoded_again_unless_it_changes(folder, monkeypatch):
    decoded, checked = [], {}
    monkeypatch.setattr("triaxis.data.pictures.decode", lambda path, *side: decoded.append(path) or decode(path, *side))
    names = {"memory": "stream", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def times() -> int:
        decoded.clear()
        config = DataConfig(source=f"imagefolder:{folder}", side_px=8, val_fraction=0.2, test_fraction=0.2, **names)
        load_splits(config, preprocess=Preprocess(), checked=checked)
        return len(decoded)

    assert (times(), times()) == (20, 0)
    file = folder / "red" / "3.png"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert times() == 1 and decoded == [file]
    (folder / "red" / "empty.png").touch()
    for _ in range(2):  # a bad one is never taken for checked
        with pytest.raises(DataError, match=r"empty\.png"):
            times()


def test_mean_and_std_must_suit_the_channels(folder):
    with pytest.raises(ConfigError, match=r"data\.mean must have a number for each of the 3 channels"):
        load(folder, mean=(0.5,), std=(0.5,))


def test_what_a_function_makes_is_normalised_as_the_configuration_says(monkeypatch):
    def made(pixels):
        return lambda: [[(pixels, 0), (pixels, 1)]] * 3

    known = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.1, 0.3)}
    for pixels in (torch.zeros(3, 8, 8), torch.full((3, 8, 8), 51, dtype=torch.uint8)):
        monkeypatch.setattr("triaxis.data.sources.import_named", lambda name, setting, pixels=pixels: made(pixels))
        splits = load_splits(DataConfig(source="my.data:make", **known))
        assert (splits.train.preprocess.mean, splits.train.preprocess.std) == (known["mean"], known["std"])
    shown = next(iter(splits.train.in_order(8))).images[0, :, 0, 0]
    assert torch.allclose(shown, torch.tensor([-1.5, -2.0, -1 / 3]), atol=1e-5)  # 51 is 0.2


def test_the_epochs_of_streamed_images_share_their_worker_processes():
    class Telling:
        """Pictures that say which process made them."""

        labels = torch.zeros(8, dtype=torch.int64)

        def __len__(self) -> int:
            return 8

        def picture(self, index, side_px, offset, flip):
            return torch.tensor(list(os.getpid().to_bytes(4, "big")), dtype=torch.uint8).view(4, 1, 1)

    plain = Preprocess(mean=(0.0,) * 4, std=(1 / 255,) * 4)
    images = StreamedImages(Telling(), 2, plain, 1, num_workers=1)
    recipe = Recipe(batch_size=4, crop_px=0)

    def makers(batches) -> set[int]:
        return {int.from_bytes(row.flatten().round().to(torch.uint8).tolist(), "big") for batch in batches for row in batch.images}

    first = makers(images.epoch(1, recipe, seed=0, epoch=0))
    next(iter(images.in_order(1, limit=1)))  # left off in the middle
    assert len(first) == 1 and os.getpid() not in first
    assert makers(images.epoch(1, recipe, seed=0, epoch=1)) == first == makers(images.in_order(1, batch_size=3))
    outer = images.epoch(1, recipe, seed=0, epoch=2)
    seen = [next(outer)]
    assert len(list(images.in_order(1, batch_size=2))) == 4  # one epoch within another disturbs neither
    seen += outer
    assert sorted(i for batch in seen for i in batch.indices.tolist()) == list(range(8))


def test_streaming_draws_no_random_numbers_that_training_draws_from(folder):
    splits = load(folder, memory="stream")
    splits.train.num_workers = 0
    torch.manual_seed(3)
    list(splits.train.epoch(8, Recipe(batch_size=4, crop_px=0), seed=0, epoch=0))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_streamed_and_resident_images_are_the_same(folder):
    resident, streamed = load(folder, memory="resident"), load(folder, memory="stream", workers=0)
    assert isinstance(resident.train, ResidentImages) and isinstance(streamed.train, StreamedImages)
    streamed.train.num_workers = streamed.val.num_workers = 0
    a = torch.cat([batch.images for batch in resident.val.in_order(8)])
    b = torch.cat([batch.images for batch in streamed.val.in_order(8)])
    assert torch.allclose(a, b)
    recipe = Recipe(batch_size=4, crop_px=0)
    seen = [i for b in streamed.train.epoch(8, recipe, seed=0, epoch=0) for i in b.indices.tolist()]
    assert sorted(seen) == list(range(12))
    assert streamed.train.labels.tolist() == resident.train.labels.tolist()


def test_the_choice_between_memory_and_disk_is_logged(folder, caplog):
    with caplog.at_level(logging.INFO):
        load(folder)
    assert "train: 12 images need" in caplog.text and "kept decoded in memory" in caplog.text


def test_a_models_own_crop_is_kept(folder):
    own = Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3, crop_fraction=0.5)
    config = DataConfig(source=f"imagefolder:{folder}", val_fraction=0.2, test_fraction=0.2)
    splits = load_splits(config, side_px=8, preprocess=own)
    assert splits.train.images.shape[-1] == 16 and splits.train.side_px == 8
    assert next(iter(splits.val.in_order(8))).images.shape[-2:] == (8, 8)
    assert splits.train.preprocess == own


def test_fewer_train_images_can_be_asked_for(folder):
    splits = load(folder, max_train_images=6)
    assert splits.train.labels.bincount().tolist() == [3, 3]


def test_the_digits_are_there_without_a_download():
    splits = load_splits(DataConfig())
    assert splits.train.num_classes == 10 and splits.train.images.dtype == torch.uint8
    assert len(splits.train) + len(splits.val) + len(splits.test.open()) == 1797


@pytest.mark.parametrize("source", ["nowhere.module:function", "json:no_such"])
def test_a_function_that_is_not_there_is_named(source):
    with pytest.raises(ConfigError, match=source):
        load_splits(DataConfig(source=source))


def test_known_sets_say_how_to_fetch_them(tmp_path):
    with pytest.raises(DataError, match=r"data\.download: true"):
        load_splits(DataConfig(source=f"cifar10:{tmp_path}"))


def test_known_sets_are_read_in_their_own_format(tmp_path):
    import pickle  # the format that CIFAR-10 is published in

    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(20)]}
        (root / name).write_bytes(pickle.dumps(batch))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a, **k: True)
        splits = load_splits(DataConfig(source=f"cifar10:{tmp_path}", val_fraction=0.2))
    assert (len(splits.train), len(splits.val), len(splits.test.open())) == (80, 20, 20)
    assert splits.train.images.shape[1:] == (3, 32, 32) and splits.class_names[3] == "class3"


def test_a_folder_larger_than_memory_is_streamed_in_bounded_memory(tmp_path, monkeypatch):
    from types import SimpleNamespace

    import psutil

    side, count = 512, 300  # 236 MB decoded
    for number in range(count):
        paint(tmp_path / "ab"[number % 2] / f"{number}.png", (number, 0, 0), (side, side))
    monkeypatch.setattr("triaxis.data.memory.psutil.virtual_memory", lambda: SimpleNamespace(available=50e6))
    splits = load(tmp_path, side_px=side, val_fraction=0.1, test_fraction=0.1)
    assert isinstance(splits.train, StreamedImages)
    splits.train.num_workers = 0
    process, usual = psutil.Process(os.getpid()), []
    before = process.memory_info().rss
    for epoch in range(2):
        batches = list_sizes(splits.train.epoch(side, Recipe(batch_size=4, crop_px=0), seed=0, epoch=epoch), process)
        assert len(batches) == len(splits.train) // 4
        usual.append(statistics.median(batches))
    assert usual[0] - before < 150e6
    assert usual[1] - usual[0] < 100e6  # nothing is kept from epoch to epoch; the allocator alone takes and gives some tens of MB


def list_sizes(batches, process) -> list[int]:
    """Return the process's memory after each batch."""
    return [process.memory_info().rss for _ in batches]
