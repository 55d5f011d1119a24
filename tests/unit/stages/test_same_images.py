"""A run goes on with the images it began with: changed ones are told, unchanged ones are not checked again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from triaxis.config import config_from_plain
from triaxis.data.pictures import decode
from triaxis.errors import ConfigError, ExperimentMismatchError
from triaxis.stages.base import open_run
from triaxis.store.directory import RunDirectory
from triaxis.store.memory import MemoryStore


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label in ("cat", "dog"):
            for number in range(count):
                path = tmp_path / "photos" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (number, 40 * number, 0)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def begin(photos: Path, tmp_path: Path):
    """Open one run, again and again; the base model is trained at the first time."""
    run, store = RunDirectory(tmp_path / "run"), MemoryStore()
    run.checkpoints.mkdir(parents=True)

    def open_once(**recipe):
        recipe = {"epochs": 1, "batch_size": 4, "crop_px": 1, **recipe}
        plain = {
            "model": "cifar:resnet8",
            "data": {"source": f"imagefolder:{photos}", "side_px": 8},
            "base": recipe,
            "collect": {"recipe": recipe},
            "finetune": recipe,
            "precision": "fp32",
            "threads": 1,
        }
        return open_run(config_from_plain(plain), run, store)

    open_once.store = store
    open_once.run = run
    return open_once


def replace_a_picture(photos: Path) -> None:
    Image.new("RGB", (8, 8), (9, 9, 9)).save(photos / "train" / "cat" / "0.png")


def rename_a_class(photos: Path) -> None:
    for split in ("train", "val", "test"):
        (photos / split / "dog").rename(photos / split / "wolf")


def test_the_same_images_go_on_and_are_not_checked_again(begin, monkeypatch):
    decoded = []
    monkeypatch.setattr("triaxis.data.pictures.decode", lambda path, *side: decoded.append(path) or decode(path, *side))
    before, num_first = begin(), len(decoded)
    again, num_again = begin(), len(decoded) - num_first
    assert (again.base.digest, again.data.digest) == (before.base.digest, before.data.digest)
    assert num_first - num_again == 16  # every picture once, those of test too


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace_a_picture, "the train split has other files"),
        (rename_a_class, "the classes are without dog and with wolf now"),
        (lambda root: (root / "test/cat/0.png").unlink(), "the test split had 4 images and has 3"),
    ],
)
def test_changed_images_are_told_though_counts_agree(begin, photos, change, words):
    opened = begin()
    assert opened.data.splits.test.times_opened == 0
    change(photos)
    with pytest.raises(ExperimentMismatchError, match=words):
        begin()


def test_images_that_change_while_the_base_model_is_trained_are_told_too(begin, photos):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triaxis.stages.context.evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            begin(epochs=2)
    (begin.run.checkpoints / "base.resume").touch()  # as one that was stopped between two epochs leaves
    replace_a_picture(photos)
    with pytest.raises(ExperimentMismatchError, match="the train split has other files"):
        begin(epochs=2)


def test_a_run_of_version_0_1_knows_no_more_than_the_counts(begin, photos):
    begin()
    record = begin.store.record("base")
    del record["data"]
    begin.store.put_record("base", record)
    replace_a_picture(photos)
    begin()
    (photos / "train" / "cat" / "0.png").unlink()
    with pytest.raises(ExperimentMismatchError, match="was made with 8 train and 4 val images of 2 classes, but there are 7 train"):
        begin()


def test_a_recipe_that_does_not_suit_the_images_is_said_before_training(begin):
    with pytest.raises(ConfigError, match="crop_px must be smaller than the side of the train split's images, 8 px, got 8"):
        begin(crop_px=8)
    assert begin.store.record("base") is None
