"""Which folders are splits and which are classes: by what they hold, not by their names alone."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from triaxis.data.folders import class_names, split_folders
from triaxis.errors import DataError


def tree(root: Path, *places: str) -> Path:
    """An empty file for each name with a suffix, a folder for each other."""
    for place in places:
        path = root / place
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    return root


def found(root: Path) -> tuple[dict[str, str], list[str]]:
    """Name of each split's folder, and the class names."""
    folders = split_folders(root)
    return {split: folder.name for split, folder in folders.items()}, class_names(list(folders.values()))


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("training", "validation", "testing"), ("Train", "VALID", "Test"), ("TRAINING", "dev", "holdout"), ("train", "eval", "testing")],
)
def test_splits_are_found_under_the_names_people_give_them(tmp_path, caplog, train, val, test):
    root = tree(tmp_path, *(f"{split}/{label}/1.png" for split in (train, val, test) for label in ("cat", "dog")))
    assert found(root) == ({"train": train, "val": val, "test": test}, ["cat", "dog"])
    assert not caplog.records


@pytest.mark.parametrize("name", ["train", "test", "validation"])
def test_a_class_may_be_named_as_a_split(tmp_path, caplog, name):
    root = tree(tmp_path, "car/1.jpg", f"{name}/1.jpg", "plane/1.jpg")
    assert found(root) == ({"train": tmp_path.name}, sorted(["car", "plane", name]))
    assert f"{name} is taken for a class" in caplog.text


def test_a_class_named_train_may_hold_folders_beside_its_pictures(tmp_path, caplog):
    root = tree(tmp_path, "car/1.jpg", "train/1.jpg", "train/steam/1.jpg")
    assert found(root)[1] == ["car", "train"]
    assert "train is taken for a class" in caplog.text


def test_folders_beside_the_splits_are_not_used_and_that_is_said(tmp_path, caplog):
    root = tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "raw/1.png", ".git/x", "empty")
    assert found(root) == ({"train": "train", "test": "test"}, ["cat", "dog"])
    assert "not used, since train is the train split beside them: raw" in caplog.text
    assert len(caplog.records) == 1


def test_pictures_beside_the_class_folders_of_a_split_are_said(tmp_path, caplog):
    root = tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "train/0.png", "val/cat/1.png")
    assert found(root)[0] == {"train": "train", "val": "val"}
    assert "pictures that lie beside its class folders are not used" in caplog.text


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["train/cat/1.png", "training/cat/1.png"], "one folder for each split, but .* has train and training for train"),
        (["train/cat/1.png", "val/cat/1.png", "valid/cat/1.png"], "has val and valid for val"),
        (["train/cat/1.png", "train/dog/1.png", "test/1.png"], "test folder .* holds pictures without a class"),
        (["val/cat/1.png", "test/cat/1.png"], "must have a train folder beside val and test"),
        (["train/1.png", "test/1.png"], "train and test are named as splits and hold pictures themselves"),
    ],
)
def test_what_fits_no_reading_is_refused(tmp_path, places, words):
    with pytest.raises(DataError, match=words):
        split_folders(tree(tmp_path, *places))


def test_splits_under_names_of_their_own_are_suspected(tmp_path, caplog):
    root = tree(tmp_path, *(f"{split}/{label}/1.png" for split in ("images_tr", "images_ts") for label in ("cat", "dog")))
    assert found(root)[1] == ["images_tr", "images_ts"]
    assert "all of them hold folders named cat, dog" in caplog.text


def test_classes_with_folders_inside_are_no_reason_to_warn(tmp_path, caplog):
    root = tree(tmp_path, "cat/indoor/1.png", "cat/outdoor/1.png", "dog/1.png", "emu/far/1.png")
    with caplog.at_level(logging.WARNING):
        assert found(root) == ({"train": tmp_path.name}, ["cat", "dog", "emu"])
    assert not caplog.records
