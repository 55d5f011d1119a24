"""The effort benchmark from end to end, on a handful of coloured noise: equal efforts, resume, records, test."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
ARMS = ["triaxis", "equal_split", "random_cut", "scratch"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Steps this small crawl on several threads where other processes want the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sittings(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of three sittings: out of time at once, all arms, and the same again with test opened."""
    effort, home, random = importlib.import_module("effort"), tmp_path_factory.mktemp("effort"), np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 6)):
        for number, tint in enumerate([(60, 0, 0), (0, 60, 0), (0, 0, 60)]):
            place = home / "images" / split / f"class{number}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = random.normal(128, 30, (16, 16, 3)) + tint
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{i}.png")
    common = ["--pair", "tiny", "--data", str(home / "images"), "--work", str(home / "work"), "--out", str(home), "--efforts", "2"]

    def call(*words: str) -> dict[str, Any]:
        assert effort.main([*common, "--arms", *ARMS, *words]) == 0
        return json.loads((home / "effort-tiny.json").read_text())

    return [call("--minutes", "0"), call(), call("--open-test")]


def test_every_arm_has_a_record_within_budget_and_effort(sittings: list[dict[str, Any]]) -> None:
    records = {r["arm"]: r for r in sittings[1]["records"]}
    assert sittings[0]["records"] == []
    assert set(records) == set(ARMS) and all(r["state"] == "done" for r in records.values())
    for arm, record in records.items():
        assert record["macs_fraction"] <= 0.5 and record["pair"] == "tiny" and record["effort"] == 2
        total = record["train_cost"] + record["collection_effort"]
        # Epochs are whole, so an arm is off by half an epoch of its network at most.
        assert total == pytest.approx(2, abs=0.5 * record["macs_fraction"] / 2 + 1e-9), arm
    assert 0 < records["triaxis"]["collection_effort"] < 0.5
    assert records["random_cut"]["collection_effort"] == 0


def test_test_is_opened_only_when_asked_for_and_nothing_is_trained_again(sittings: list[dict[str, Any]]) -> None:
    before, after = ({r["arm"]: r for r in found["records"]} for found in sittings[1:])
    assert all(r["test_accuracy"] is None for r in before.values())
    assert all(0 <= r["test_accuracy"] <= 1 for r in after.values())
    assert {a: r["val_loss"] for a, r in before.items()} == {a: r["val_loss"] for a, r in after.items()}
