"""The benchmark of the vision transformer from end to end, on a handful of coloured noise."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

ARMS = ("triaxis", "width", "depth", "resolution", "equal_split")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 16 px noise with a tint each."""
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 8)):
        for number, tint in enumerate([(60, 0, 0), (0, 0, 60)]):
            place = tmp_path / "images" / split / f"class{number}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = random.normal(128, 30, (16, 16, 3)) + tint
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{i}.png")
    return tmp_path / "images"


def test_each_axis_alone_and_all_three_are_within_the_budget(folder: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    vit = importlib.import_module("vit")
    words = ["--profile", "tiny", "--data", str(folder), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results")]
    try:
        assert vit.main([*words, "--budgets", "macs=50%"]) == 0
    finally:
        torch.set_num_threads(before)
    found = json.loads((tmp_path / "results" / "vit-tiny.json").read_text())
    records = {record["arm"]: record for record in found["records"]}
    assert tuple(records) == ARMS and {r["state"] for r in records.values()} == {"done"}
    assert all(r["macs_fraction"] <= 0.5 for r in records.values())
    alone = {"width": (1, 0, 1), "depth": (0, 1, 1), "resolution": (1, 1, 0)}  # 1 is whole
    for arm, whole in alone.items():
        ratios = [records[arm]["ratios"][axis] for axis in ("depth", "width", "resolution")]
        assert [ratio == 1 for ratio in ratios] == [bool(w) for w in whole], arm
    assert "width only, triaxis's surgery" in (tmp_path / "results" / "vit-tiny.md").read_text()
