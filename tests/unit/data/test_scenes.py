"""Scenes are made, so that masks and boxes are exact: here they are compared with what was pasted."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from triaxis.data.scenes import Piece, composed, digit_scenes

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "data" / "scenes.py"


def block(size: int, label: int, colour: int) -> Piece:
    return Piece(np.full((size, size, 3), float(colour)), np.ones((size, size)), np.ones((size, size), dtype=bool), label)


def test_the_mask_and_the_box_are_where_the_colour_is() -> None:
    for seed in range(5):
        scene = composed(np.random.default_rng(seed), 20, [block(6, 3, 255), block(4, 7, 0)])
        assert ((scene.pixels == 255).all(2) | (scene.mask != 3)).all() and ((scene.pixels == 0).all(2) | (scene.mask != 7)).all()
        assert (scene.mask == 7).sum() == 16, "what is pasted last is whole"
        label, left, top, right, bottom = scene.boxes[-1].tolist()
        assert (label, right - left, bottom - top) == (7, 4, 4) and (scene.mask[top:bottom, left:right] == 7).all()


def test_a_hidden_object_has_no_box() -> None:
    scene = composed(np.random.default_rng(0), 8, [block(8, 1, 255), block(8, 2, 0)])
    assert scene.boxes.tolist() == [[2, 0, 0, 8, 8]]


def test_digits_of_two_parts_do_not_meet_and_ground_is_no_plain_colour() -> None:
    first, second = (digit_scenes(6, side_px=32, seed=0, part=part) for part in ((0.0, 0.5), (0.5, 1.0)))
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))
    assert all(scene.pixels[scene.mask == 0].std() > 3 for scene in first)
    assert {label for scene in first for label in scene.boxes[:, 0].tolist()} <= set(range(1, 11))


def test_the_script_writes_pictures_masks_and_boxes_in_coco_format(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("scenes_script", SCRIPT)
    assert spec and spec.loader
    script = sys.modules["scenes_script"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "ship"):
            (tmp_path / "cifar" / split / name).mkdir(parents=True)
            for number in range(10):
                Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "cifar" / split / name / f"{number}.png")
    arguments = [str(tmp_path / "cifar"), str(tmp_path / "out"), "--side", "48", "--num", "4", "2", "3"]
    assert script.main(arguments) == 0
    out = tmp_path / "out"
    assert (out / "classes.txt").read_text().split() == ["ground", "cat", "ship"]
    said = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert [image["file_name"] for image in said["images"]] == sorted(path.name for path in (out / "train/images").iterdir())
    assert said["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "ship"}]
    for box in said["annotations"]:
        mask = np.array(Image.open(out / "train/masks" / f"{box['image_id']:05d}.png"))
        left, top, width, height = box["bbox"]
        inside = mask[top : top + height, left : left + width] == box["category_id"]
        assert inside.any(0).all() and inside.any(1).all(), "the box is as small as it can be"
    before = (out / "test/images/00000.png").read_bytes()
    script.main(arguments)
    assert (out / "test/images/00000.png").read_bytes() == before
