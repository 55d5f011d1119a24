"""Detection from a COCO folder to a finished run: boxes learnt, cut, measured, exported, loaded again and predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import triaxis
from triaxis.config import config_from_plain
from triaxis.deliver.boxes import find_boxes
from triaxis.deliver.bundle import export_run
from triaxis.models.detector import Detector
from triaxis.report import report_run
from triaxis.stages.pipeline import run

FEW = {"batch_size": 16, "crop_px": 0, "optimizer": "adamw", "peak_lr": 0.004}
PLAIN = {
    "task": "detection",
    "precision": "fp32",
    "threads": 1,
    "budget": "macs=70%",
    "model": {
        "name": "detection:fcos",
        "args": {"backbone": "test_resnet", "channels": 32, "first_level": 3, "last_level": 4, "num_convs": 1},
    },
    "base": {"epochs": 8, **FEW},
    "collect": {"num_trials": 4, "min_resolution": 0.75, "min_width": 0.5, "block_images": 16, "recipe": {"epochs": 1, **FEW}},
    "finetune": {"epochs": 2, **FEW},
    "profile": {"batches": [1], "repeats": 3},
    "export": {"formats": ["safetensors"]},
}


def shapes(root: Path, num: int = 120, side: int = 64) -> Path:
    """Dark pictures with one or two squares, red ones of one class and green ones of another, and where they are."""
    rng = np.random.default_rng(0)
    plain: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]}
    (root / "images").mkdir(parents=True)
    for n in range(num):
        pixels = rng.integers(0, 60, (side, side, 3))
        for half in range(rng.integers(1, 3)):
            size, label = int(rng.integers(16, 30)), int(rng.integers(0, 2))
            top, left = int(rng.integers(0, side - size)), int(rng.integers(0, side // 2 - size + 1)) + half * side // 2
            pixels[top : top + size, left : left + size] = 20
            pixels[top : top + size, left : left + size, label] = 220
            row = {"id": len(plain["annotations"]) + 1, "image_id": n, "category_id": label + 1, "bbox": [left, top, size, size]}
            plain["annotations"].append(row)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{n}.png")
        plain["images"].append({"id": n, "file_name": f"{n}.png", "width": side, "height": side})
    (root / "annotations.json").write_text(json.dumps(plain))
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    pytest.importorskip("pycocotools")
    root = shapes(tmp_path_factory.mktemp("data") / "shapes")
    outcome = run(config_from_plain({**PLAIN, "data": {"source": f"coco:{root}", "val_fraction": 0.2}}), root.parent / "run")
    return outcome, root


def test_the_budget_is_met_and_things_are_still_found(finished) -> None:
    outcome, _ = finished
    base, cut = outcome.summary["base"], outcome.summary["compressed"]
    assert base["test_accuracy"] > 0.3 and cut["macs"] <= 0.7 * base["macs"] and cut["test_accuracy"] > 0.15
    assert cut["test_interval"][0] <= cut["test_accuracy"] <= cut["test_interval"][1]


def test_the_report_speaks_of_mean_average_precision(finished) -> None:
    page = report_run(finished[0].directory).read_text()
    assert "mean average precision" in page and "test accuracy" not in page


def test_the_files_are_the_model_again(finished) -> None:
    outcome, _ = finished
    again = triaxis.load(outcome.directory / "compressed")
    side = outcome.solution.side_px
    assert isinstance(again, Detector) and again.detector.transform.fixed_size == (side, side)
    assert again.detector.transform.image_mean == outcome.model.detector.transform.image_mean
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        live = outcome.model.cpu().eval().found(images)
        assert all(torch.allclose(part, live[name], atol=1e-4) for name, part in again.found(images).items())


def test_exported_files_hold_boxes_and_scores(finished) -> None:
    pytest.importorskip("onnxruntime")
    from triaxis.metrics.runtimes.onnx import run_onnx

    outcome, _ = finished
    side = outcome.solution.side_px
    images = torch.randn(3, 3, side, side)
    with torch.inference_mode():
        live = outcome.model.cpu().eval().found(images)
    for form in ("onnx", "pt2"):
        path = export_run(outcome.directory, form)
        found = run_onnx(path)(images) if form == "onnx" else torch.export.load(path).module()(images)
        assert set(found) == {"boxes", "scores"}
        assert all(torch.allclose(part, live[name], atol=1e-4) for name, part in found.items())


def test_boxes_are_found_in_files(finished) -> None:
    outcome, root = finished
    plain = json.loads((root / "annotations.json").read_text())
    files = [root / "images" / f"{n}.png" for n in range(20)]
    found = find_boxes(outcome.directory / "compressed", files, top=2)
    near = 0
    for n, file in enumerate(files):
        best = found[str(file)][0]
        assert best.name in ("red", "green") and 0 < best.score <= 1
        for row in plain["annotations"]:
            x, y, width, height = row["bbox"]
            right = row["image_id"] == n and best.name == ("red", "green")[row["category_id"] - 1]
            near += right and max(abs(a - b) for a, b in zip(best.box, (x, y, x + width, y + height), strict=True)) < 8
    assert near >= 12
