"""Segmentation from the command line: a run on scenes that are made here, its report, its masks and its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import triaxis
from triaxis.config import config_from_plain
from triaxis.stages.pipeline import run
from triaxis.surgery.proof import disagreement

FEW = "{batch_size: 16, crop_px: 2, peak_lr: 0.1}"
CONFIG = f"""
task: segmentation
threads: 1
precision: fp32
model: {{name: "unet:basic", args: {{width: 8, levels: 2, blocks: 2}}}}
data: {{source: "masks:DATA", side_px: 16}}
budget: macs=60%
segmentation: {{dice: 0.5}}
width: {{round_to: 2}}
base: {{epochs: 10, {FEW[1:]}
collect: {{num_trials: 4, min_resolution: 0.8, block_images: 32, calibrate_images: 32, recipe: {{epochs: 1, {FEW[1:]}}}
finetune: {{epochs: 3, {FEW[1:]}
profile: {{batches: [1], repeats: 3}}
export: {{formats: [safetensors, pt2]}}
"""


def squares_and_discs(num: int, seed: int, side: int = 16) -> tuple[Tensor, Tensor]:
    """Return noise with one red square and one green disc, and masks: 0 is ground, 1 square, 2 disc; a few pixels are 255."""
    rng = np.random.default_rng(seed)
    images, masks = rng.integers(0, 90, (num, side, side, 3)), np.zeros((num, side, side), dtype=np.uint8)
    y, x = np.mgrid[:side, :side]
    for image, mask in zip(images, masks, strict=True):
        top, left, row, column = rng.integers(0, side - 6, 4)
        square, disc = (abs(y - top - 3) <= 3) & (abs(x - left - 3) <= 3), (y - row - 3) ** 2 + (x - column - 3) ** 2 <= 9
        image[square, 0], mask[square] = 230, 1
        image[disc] = (20, 220, 20)
        mask[disc] = 2
        mask[0, :2] = 255
    return torch.from_numpy(images.astype(np.uint8)).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for seed, (split, num) in enumerate((("train", 96), ("val", 32), ("test", 32))):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(*squares_and_discs(num, seed), strict=True)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask.numpy()).save(root / split / "masks" / f"{number}.png")
    (root / "classes.txt").write_text("ground\nsquare\ndisc\n")
    return root


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory, command) -> Path:
    place = tmp_path_factory.mktemp("segmentation")
    (place / "scenes.yaml").write_text(CONFIG.replace("DATA", str(folder)))
    done = command("run", place / "scenes.yaml", "--out", place / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "said.txt").write_text(done.stdout + done.stderr)
    return place / "run"


def test_the_budget_is_met_and_what_was_learnt_is_kept(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    base, cut = summary["base"], summary["compressed"]
    assert summary["score"] == "mean IoU" and cut["macs"] <= 0.6 * base["macs"]
    assert base["test_accuracy"] > 0.7 and cut["test_accuracy"] > 0.6
    assert cut["test_interval"][0] < cut["test_accuracy"] < cut["test_interval"][1]


def test_messages_report_and_picture_say_mean_iou(finished: Path, command) -> None:
    said = (finished.parent / "said.txt").read_text()
    assert "test mean IoU" in said and "val mean IoU" in said and "accuracy" not in said
    page = (finished / "report.html").read_text()
    assert "The mean IoU of this run is the mean over classes of intersection over union" in page
    prose = page.replace('data-said="accuracy"', "").replace("target: accuracy", "")
    prose = prose[: prose.index("<script")] if "<script" in prose else prose
    assert " accuracy" not in prose and " Accuracy" not in prose and "accuracies" not in prose
    for words in (("solve", finished, "--budget", "macs=80%"), ("frontier", finished, "--num", 5), ("fit", finished), ("status", finished)):
        done = command(*words)
        assert done.returncode == 0 and "mean IoU" in done.stdout and "accuracy" not in done.stdout, words


def test_masks_are_predicted_at_the_size_of_the_picture(finished: Path, folder: Path, tmp_path: Path, command) -> None:
    path, mask = folder / "test/images/3.png", np.array(Image.open(folder / "test/masks/3.png"))
    wide = Image.new("RGB", (40, 16), (40, 40, 40))
    wide.paste(Image.open(path), (20, 0))
    wide.save(tmp_path / "wide.png")
    done = command("predict", finished / "compressed", path, tmp_path / "wide.png", "--out", tmp_path / "masks", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found[str(path)]["classes"][0][0] == "ground" and sum(share for _, share in found[str(path)]["classes"]) == pytest.approx(1)
    with Image.open(tmp_path / "masks/3.png") as made:
        assert made.mode == "P" and made.size == (16, 16)
        right = (np.array(made) == mask)[mask != 255].mean()
    assert right > 0.85
    with Image.open(tmp_path / "masks/wide.png") as made:
        assert made.size == (40, 16)
        assert (np.array(made)[:, 20:36] == mask)[mask != 255].mean() > 0.8, "squares cover a wide picture"
    refused = command("predict", finished / "compressed", path, path, "--out", tmp_path / "twice")
    assert refused.returncode != 0 and "differ in their names" in refused.stdout + refused.stderr


def test_the_result_is_loaded_exported_and_runs_again_without_training(finished: Path, folder: Path, command) -> None:
    model = triaxis.load(finished / "compressed")
    side = json.loads((finished / "compressed/plan.json").read_text())["input"][1]
    images = torch.randn(2, 3, side, side)
    assert model(images).shape == (2, 3, side, side)
    program = torch.export.load(finished / "compressed/model.pt2").module()
    assert disagreement(program, model, images) < 1e-4
    assert command("export", finished, "--format", "onnx").returncode == 0 and (finished / "compressed/model.onnx").exists()
    before = json.loads((finished / "summary.json").read_text())
    assert command("run", finished.parent / "scenes.yaml", "--out", finished).returncode == 0
    assert json.loads((finished / "summary.json").read_text())["compressed"] == before["compressed"]


class WithAux(nn.Module):
    """As FCN has it: the main output, and one from the middle that only training looks at, at a quarter of the side."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.head, self.side = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        out = nn.functional.interpolate(self.head(self.block(features)), x.shape[-2:], mode="bilinear")
        return {"out": out, "aux": self.side(features)}


def test_compress_takes_data_sets_of_masks_and_a_model_with_an_auxiliary_head(tmp_path: Path) -> None:
    data = [TensorDataset(*squares_and_discs(num, seed)) for seed, num in enumerate((48, 24, 24))]
    few = {"batch_size": 16, "crop_px": 0, "peak_lr": 0.1}
    plain = {
        "task": "segmentation", "threads": 1, "precision": "fp32", "width": {"round_to": 2, "importance": "taylor"},
        "collect": {"num_trials": 4, "min_resolution": 0.8, "recipe": {"epochs": 1, **few}}, "finetune": {"epochs": 2, **few},
        "profile": {"batches": [1], "repeats": 3},
    }  # fmt: skip
    torch.manual_seed(0)
    found = triaxis.compress(WithAux(), data, budget="macs=60%", out=tmp_path / "run", config=config_from_plain(plain))
    side = found.solution.side_px
    assert found.summary["compressed"]["macs"] <= 0.6 * found.summary["base"]["macs"]
    assert list(torch.export.load(tmp_path / "run/compressed/model.pt2").module()(torch.zeros(1, 3, side, side))) == ["out", "aux"]


def test_shared_weights_learn_masks_too(tmp_path: Path) -> None:
    few = {"batch_size": 16, "crop_px": 0, "peak_lr": 0.1}
    plain = {
        "task": "segmentation", "threads": 1, "precision": "fp32",
        "data": {"source": "digit_scenes", "side_px": 16, "max_train_images": 64, "val_fraction": 0.05, "test_fraction": 0.05},
        "model": {"name": "unet:basic", "args": {"width": 4, "levels": 2, "blocks": 2}}, "width": {"round_to": 1},
        "base": {"epochs": 1, **few}, "finetune": {"epochs": 1, **few}, "profile": {"batches": [1], "repeats": 3},
        "collect": {"method": "elastic", "num_cuts": 12, "effort": 1.0, "block_images": 32, "shared": few}, "effort": 1.5,
        "export": {"formats": ["safetensors"]},
    }  # fmt: skip
    summary = run(config_from_plain(plain), tmp_path / "run").summary
    assert summary["compressed"]["macs"] <= 0.5 * summary["base"]["macs"]
