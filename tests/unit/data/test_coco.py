"""COCO folders: the layouts that people have, boxes as shares, and wrong ones named with their file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from triaxis.config import DataConfig
from triaxis.data.coco import annotation_files, read_annotations
from triaxis.data.images import ResidentImages
from triaxis.data.sources import load_splits
from triaxis.errors import DataError
from triaxis.tasks import make_task
from triaxis.values import Recipe

TASK = make_task("detection")


def plain_of(num: int, *, first_id: int = 1, box: list | None = None) -> dict:
    """Pictures of 40 x 20 px with a white rectangle each, whose box is (10, 5, 8, 10) in pixels."""
    return {
        "images": [{"id": 7 * n, "file_name": f"{n}.png", "width": 40, "height": 20} for n in range(num)],
        "annotations": [
            {"id": n, "image_id": 7 * n, "category_id": first_id + n % 2, "bbox": box or [10, 5, 8, 10], "iscrowd": 0} for n in range(num)
        ],
        "categories": [{"id": first_id, "name": "cat"}, {"id": first_id + 1, "name": "dog"}],
    }


def write(folder: Path, annotations: Path, plain: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    annotations.parent.mkdir(parents=True, exist_ok=True)
    for image in plain["images"]:
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[5:15, 10:18] = 255
        Image.fromarray(pixels).save(folder / image["file_name"])
    annotations.write_text(json.dumps(plain))


LAYOUTS = {
    "one folder for each split, its file beside the pictures": ("{split}", "{split}/_annotations.coco.json"),
    "files named after the splits": ("{split}", "{split}.json"),
    "as COCO has it": ("{split}2017", "annotations/instances_{split}2017.json"),
    "all pictures in one folder": ("images", "annotations/{split}.json"),
    "folders in a folder": ("images/{split}", "annotations/{split}.json"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read(layout: str, tmp_path: Path) -> None:
    folder, file = LAYOUTS[layout]
    for split in ("train", "val"):
        write(tmp_path / folder.format(split=split), tmp_path / file.format(split=split), plain_of(3))
    found = annotation_files(tmp_path)
    assert set(found) == {"train", "val"}
    read = read_annotations(found["val"], tmp_path)
    assert [path.name for path in read.paths] == ["0.png", "1.png", "2.png"] and read.names == {1: "cat", 2: "dog"}
    assert read.boxes[1].tolist() == [pytest.approx([0.25, 0.25, 0.45, 0.75, 2.0])]


def test_splits_that_are_not_there_are_drawn_and_the_loop_gets_boxes(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "all.json", plain_of(20))
    splits = load_splits(DataConfig(source=f"coco:{tmp_path}", side_px=16), task=TASK)
    assert (len(splits.train), len(splits.val), splits.train.num_classes) == (14, 2, 3)
    assert splits.class_names == ("cat", "dog") and splits.test.labels is not None and len(splits.test.labels) == 4
    batch = next(splits.train.epoch(16, Recipe(batch_size=14, crop_px=0), seed=0, epoch=0))
    assert batch.labels.shape == (14, 1, 5)
    lefts = {round(x, 2) for x in batch.labels[:, 0, 0].tolist()}
    assert lefts == {0.25, 0.55}, "some pictures are mirrored, with their boxes"
    for picture, box in zip(batch.images.mean(1), batch.labels[:, 0], strict=True):
        columns = (picture > picture.mean()).any(0).nonzero()
        assert abs(columns.float().mean() / 16 - (box[0] + box[2]) / 2) < 0.06


def test_pictures_that_are_streamed_are_those_in_memory(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "all.json", plain_of(12))
    both = [
        load_splits(DataConfig(source=f"coco:{tmp_path}", side_px=16, memory=kind, workers=1), task=TASK) for kind in ("resident", "stream")
    ]
    resident, streamed = (next(splits.train.in_order(16)) for splits in both)
    assert isinstance(both[0].train, ResidentImages) and not isinstance(both[1].train, ResidentImages)
    assert torch.equal(resident.labels, streamed.labels) and torch.allclose(resident.images, streamed.images)
    mirrored = next(both[1].train.epoch(16, Recipe(batch_size=8, crop_px=0), seed=0, epoch=0))
    assert {round(x, 2) for x in mirrored.labels[:, 0, 0].tolist()} == {0.25, 0.55}


def test_ids_from_zero_are_counted_from_one_and_crowds_are_left_out(tmp_path: Path) -> None:
    plain = plain_of(2, first_id=0)
    plain["annotations"][1]["iscrowd"] = 1
    write(tmp_path / "images", tmp_path / "train.json", plain)
    read = read_annotations(tmp_path / "train.json", tmp_path)
    assert read.names == {1: "cat", 2: "dog"} and [len(boxes) for boxes in read.boxes] == [1, 0]


def changed(**changes: object) -> dict:
    plain = plain_of(2)
    for path, value in changes.items():
        section, key = path.split("__")
        plain[section][0][key] = value
    return plain


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        (changed(annotations__bbox=[10, 5, 0, 10]), r"train\.json: the box of annotation 0 in 0\.png .* it is empty"),
        (changed(annotations__bbox=[30, 5, 20, 10]), r"in 0\.png must lie in its picture of 40 x 20 px, got \[30, 5, 20, 10\].*outside"),
        (changed(annotations__bbox=[1, 2, 3]), r"must be \[x, y, width, height\] in pixels"),
        (changed(annotations__category_id=9), r"category_id must be one of the file's, got 9"),
        (changed(annotations__image_id=99), r"annotation 0 must be of an image in the file, got image_id 99"),
        (changed(images__file_name="gone.png"), r"names the picture 'gone\.png', .* but is in none"),
        (changed(images__file_name="../../../etc/hosts"), r"but is in none of them"),
        (changed(images__id=7), r"give each image an id of its own"),
        (changed(images__width=0), r"image 0 has no file_name, width and height"),
        (changed(categories__id=5000), r"ids from 1 to 1000"),
        ({"images": []}, r"must be in COCO's form.*it has no 'annotations'"),
        ([], r"must be in COCO's form"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_files_name(plain: dict, words: str, tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "train.json", plain_of(2))
    (tmp_path / "train.json").write_text(json.dumps(plain))
    with pytest.raises(DataError, match=words):
        read_annotations(tmp_path / "train.json", tmp_path)


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        annotation_files(tmp_path / "none")
    with pytest.raises(DataError, match="must hold an annotation file"):
        annotation_files(tmp_path)
    for name in ("train.json", "training.json"):
        write(tmp_path / "images", tmp_path / name, plain_of(12))
    with pytest.raises(DataError, match="one annotation file for train"):
        annotation_files(tmp_path)
    (tmp_path / "training.json").unlink()
    with pytest.raises(DataError, match="holds boxes, got task classification"):
        load_splits(DataConfig(source=f"coco:{tmp_path}"))
    Image.new("RGB", (41, 20)).save(tmp_path / "images" / "3.png")
    with pytest.raises(DataError, match=r"3\.png must be 40 x 20 px, as its annotations say, got 41 x 20"):
        load_splits(DataConfig(source=f"coco:{tmp_path}"), task=TASK)


def test_a_split_without_boxes_and_splits_with_other_categories_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, tmp_path / f"{split}.json", plain_of(12))
    (tmp_path / "val.json").write_text(json.dumps({**plain_of(12), "annotations": []}))
    with pytest.raises(DataError, match="val split must hold at least one picture with a box"):
        load_splits(DataConfig(source=f"coco:{tmp_path}"), task=TASK)
    (tmp_path / "val.json").write_text(json.dumps({**plain_of(12), "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cow"}]}))
    with pytest.raises(DataError, match="same categories"):
        load_splits(DataConfig(source=f"coco:{tmp_path}"), task=TASK)
