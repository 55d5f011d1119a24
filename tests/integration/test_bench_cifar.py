"""The CIFAR-10 benchmark from end to end, on a handful of coloured noise: arms, budgets, resume, results."""

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

ARMS = ["triaxis", "width_group_norm", "depth", "equal_split", "scratch"]
KEYS = {"arm", "budget", "seed", "val_accuracy", "test_accuracy", "macs_fraction", "speedup_batch1", "speedup_batch64", "train_cost"}


@pytest.fixture(scope="module")
def cifar() -> Any:
    return importlib.import_module("cifar")


@pytest.fixture(autouse=True, scope="module")
def _threads():
    """Steps this small crawl on several threads where other processes want the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of 16 px noise with a tint; the class decides the tint."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    tints = [(60, 0, 0), (0, 60, 0), (0, 0, 60), (-40, -40, -40)]
    for split, count in (("train", 30), ("test", 6)):
        for number, tint in enumerate(tints):
            place = root / split / f"class{number}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = random.normal(128, 30, (16, 16, 3)) + tint
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def bench(cifar: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Call the benchmark with some options; return its results."""
    home = tmp_path_factory.mktemp("bench")

    def call(*words: str) -> dict[str, Any]:
        options = ["--profile", "tiny", "--data", str(folder), "--work", str(home / "work"), "--out", str(home / "results"), *words]
        assert cifar.main(options) == 0
        return json.loads((home / "results" / "cifar-tiny.json").read_text())

    call.home = home  # type: ignore[attr-defined]
    return call


@pytest.fixture(scope="module")
def sittings(bench: Any) -> list[dict[str, Any]]:
    """Results of three sittings: out of time at once, two arms of which one is paid for the collection, all arms."""
    return [
        bench("--minutes", "0"),
        bench("--arms", "triaxis", "equal_split", "--budgets", "macs=25%"),
        bench("--arms", *ARMS, "--dear-budgets", "macs=25%"),
    ]


def test_each_arm_budget_and_seed_has_its_record(sittings: list[dict[str, Any]]) -> None:
    assert [len(found["records"]) for found in sittings] == [0, 3, 11]
    records = sittings[-1]["records"]
    paid = {r["arm"] for r in records if r["arm"].endswith("+collection")}
    assert paid == {"equal_split+collection", "width_group_norm+collection"}
    assert [r["budget"] for r in records if r["arm"] == "scratch"] == ["macs=25%"]
    for record in records:
        assert record["state"] in ("done", "infeasible")
        if record["state"] == "done":
            assert record.keys() >= KEYS
            assert record["macs_fraction"] <= float(record["budget"].strip("macs=%")) / 100
            assert 0 <= record["test_accuracy"] <= 1
            assert record["speedup_batch64"] > 0
    assert sittings[-1]["machine"]["threads"] == 1
    assert sittings[-1]["config"]["data"]["source"] == "imagefolder"


def test_an_arm_that_cannot_says_how_far_it_gets(sittings: list[dict[str, Any]]) -> None:
    depth = next(r for r in sittings[-1]["records"] if r["arm"] == "depth" and r["budget"] == "macs=25%")
    assert depth["state"] == "infeasible"
    assert 0.25 < depth["smallest_fraction"] < 0.6


def test_nothing_finished_is_done_again(sittings: list[dict[str, Any]]) -> None:
    assert all(record in sittings[2]["records"] for record in sittings[1]["records"])


def test_training_effort_is_equal_but_for_whole_epochs(sittings: list[dict[str, Any]]) -> None:
    """One epoch fits the budget; an arm that is cheaper than the budget by a little still gets one, so none gets more effort."""
    for record in sittings[-1]["records"]:
        if record["state"] == "done" and record["arm"] in ("triaxis", "depth", "equal_split", "width_group_norm"):
            share = float(record["budget"].strip("macs=%")) / 100
            assert 0.5 * share < record["train_cost"] < 1.5 * share


def test_the_same_command_again_trains_nothing(
    bench: Any, sittings: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = importlib.import_module("rivals.run")
    monkeypatch.setattr(run, "run_arm", lambda case: pytest.fail(f"{case.key} is trained again"))
    monkeypatch.setattr(run, "_close", lambda *rest: pytest.fail("test is read again"))
    assert bench("--arms", *ARMS, "--dear-budgets", "macs=25%")["records"] == sittings[-1]["records"]
    assert "Not all is done" not in capsys.readouterr().out


def test_the_page_and_the_figure_come_from_the_runs_alone(bench: Any, sittings: list[dict[str, Any]]) -> None:
    results = bench.home / "results"
    before = {path.name: path.read_text() for path in results.iterdir()}
    for path in results.iterdir():
        path.unlink()
    bench("--report-only")
    assert {path.name: path.read_text() for path in results.iterdir()} == before
    assert set(before) == {"cifar-tiny.json", "cifar-tiny.md", "cifar-tiny.svg"}
    assert "cannot: at least" in before["cifar-tiny.md"]


def test_a_folder_that_is_not_there_is_named(cifar: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cifar.main(["--profile", "tiny", "--data", str(tmp_path / "none"), "--work", str(tmp_path), "--out", str(tmp_path)]) == 3
    assert "--data must name a folder" in capsys.readouterr().err


@pytest.mark.usefixtures("sittings")
def test_a_process_stopped_in_training_goes_on_with_the_same_cut(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = importlib.import_module("rivals.run")
    words = ("--arms", "width_l2", "--budgets", "macs=50%", "--dear-budgets")

    def stopped(*rest: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            bench(*words)
    monkeypatch.setitem(run.MAKERS, "width_l2", lambda case: pytest.fail("the cut is made again"))
    record = next(r for r in bench(*words)["records"] if r["arm"] == "width_l2")
    assert record["state"] == "done"
    assert record["test_accuracy"] is not None
