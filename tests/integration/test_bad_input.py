"""What a user can get wrong: each gives one sentence and its own exit code, and leaves the run directory usable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import triaxis
from triaxis.cli import app
from triaxis.config import config_from_plain
from triaxis.data.images import Preprocess
from triaxis.errors import ConfigError, DataError, UnsupportedModelError
from triaxis.models.cifar import resnet
from triaxis.models.zoos import ModelSource, build
from triaxis.store import open_store
from triaxis.values import PrunePlan

TINY_BASE = {"epochs": 1, "batch_size": 32, "crop_px": 1, "flip": False}


@pytest.fixture
def attempt(tmp_path, tiny_file):
    """Run the tiny configuration with some settings replaced; returns exit code and standard error."""

    def run(changes: dict, out: Path | None = None) -> tuple[int, str]:
        plain = yaml.safe_load(tiny_file.read_text())
        for path, setting in changes.items():
            *parents, last = path.split(".")
            place = plain
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = setting
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
        found = CliRunner().invoke(app, ["run", str(tmp_path / "config.yaml"), "--out", str(out or tmp_path / "run")])
        return found.exit_code, found.stderr

    return run


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"budgett": "macs=50%"}, 3, "did you mean budget"),
        ({"collect.num_trial": 5}, 3, "collect.num_trials"),
        ({"seed": "five"}, 3, "seed must be a valid integer"),
        ({"budget": "macs=0%"}, 3, "above 0"),
        ({"budget": "macs=120%"}, 3, "at most 100 %"),
        ({"budget": "speed=3"}, 3, "METRIC=AMOUNT"),
        ({"device": "cuda:99"}, 3, "device"),
        ({"model.weights": "nowhere.safetensors"}, 3, "nowhere.safetensors"),
        ({"model.name": "timm:resnet181"}, 3, "did you mean"),
        ({"data.source": "imagefolder:nowhere"}, 5, "nowhere"),
        ({"base.batch_size": 4096}, 5, "at least one batch of 4096 images"),
        ({"model.num_classes": 7}, 6, "one logit for each class"),
    ],
)
def test_one_sentence_and_its_exit_code(attempt, changes, code, words):
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    found, stderr = attempt(changes)
    assert (found, words in stderr) == (code, True), stderr
    assert stderr.count("Traceback") == 0


def test_nan_in_the_weights(attempt, tmp_path):
    state = build("cifar:resnet14", {"width": 0.5}, 10).state_dict()
    state["conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "weights.safetensors")
    code, stderr = attempt({"model.weights": str(tmp_path / "weights.safetensors")})
    assert code == 6 and "conv1.weight" in stderr


def test_a_loss_that_explodes(attempt):
    code, stderr = attempt({"base": {**TINY_BASE, "peak_lr": 1e30, "clip_norm": 0.0}})
    assert code == 10 and "lower peak_lr" in stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(attempt, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    code, stderr = attempt({}, tmp_path / "locked" / "run")
    assert code == 11 and "must be writable" in stderr


def test_a_path_that_is_no_directory(attempt, tmp_path):
    (tmp_path / "file").write_text("")
    code, stderr = attempt({}, tmp_path / "file" / "run")
    assert code == 11 and "must be writable" in stderr


def test_a_full_disk(attempt, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").mkdir()
    # A quota of the process stands for the disk: no file may grow beyond 100 kB, and a checkpoint is larger.
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from triaxis.cli import main\n"
        "main()\n"
    )
    plain = {"model": "cifar:resnet20", "data": {"source": "digits", "side_px": 8}, "base": TINY_BASE, "precision": "fp32"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    words = [sys.executable, "-c", script, "run", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 11, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_second_process_and_ctrl_c(tiny_file, tmp_path, process):
    """While one process works on a directory another is refused; the first, interrupted, says that nothing is lost."""
    out = tmp_path / "run"
    config = tmp_path / "long.yaml"
    config.write_text(tiny_file.read_text().replace("epochs: 12", "epochs: 3000"))
    # A shell that starts this test in the background has it ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    first = subprocess.Popen([sys.executable, "-m", "triaxis", "run", str(config), "--out", str(out)], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 60
        while not (out / "checkpoints" / "base.resume").exists():
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.2)
        second = process("run", config, "--out", out)
        assert second.returncode == 12 and str(first.pid) in second.stderr
        first.send_signal(signal.SIGINT)
        _, stderr = first.communicate(timeout=60)
    finally:
        first.kill()
    assert first.returncode == 130 and "nothing is lost" in stderr
    with open_store(out / "store.sqlite", read_only=True) as store:
        assert store.record("environment") is not None


class Pair(nn.Module):
    """Returns a tuple, as some networks do."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.mean((2, 3)), images


def images_of(num: int, shape: tuple[int, int, int] = (3, 8, 8)) -> TensorDataset:
    return TensorDataset(torch.randn(num, *shape), torch.arange(num) % 3)


@pytest.mark.parametrize(
    ("model", "images", "error", "words"),
    [
        (None, images_of(96), ConfigError, "must be a torch.nn.Module, got NoneType"),
        (Pair(), images_of(96), UnsupportedModelError, "it has no parameters"),
        (
            nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            images_of(96),
            UnsupportedModelError,
            "raised RuntimeError",
        ),
        (resnet(8, num_classes=3), images_of(40), DataError, "at least one batch of 128"),
        (resnet(8, num_classes=3), images_of(96, (3, 8, 6)), DataError, r"\(C, S, S\)"),
        (resnet(8, num_classes=3), [(np.zeros((8, 8, 3)), 0)] * 96, DataError, "tensors or PIL images, got ndarray"),
        (resnet(8, num_classes=3), [(torch.zeros(3, 8, 8), "cat")] * 96, DataError, "whole numbers from 0, got 'cat'"),
    ],
)
def test_what_compress_cannot_use_is_said_before_anything_is_trained(tmp_path, model, images, error, words):
    config = config_from_plain({"collect": {"recipe": {"batch_size": 32}}, "threads": 1})
    with pytest.raises(error, match=words):
        triaxis.compress(model, (images, images, images), budget="macs=50%", out=tmp_path / "run", config=config)
    assert not list(tmp_path.glob("run/checkpoints/*"))


@pytest.mark.parametrize(
    ("splits", "error", "words"),
    [
        (5, ConfigError, "three data sets .*, got int"),
        (images_of(96), ConfigError, "three data sets .*, got TensorDataset"),
        (DataLoader(images_of(96)), ConfigError, "three data sets .*, got DataLoader"),
        ({"train": 1, "val": 2, "test": 3}, ConfigError, "three data sets .*, got dict"),
        ((images_of(96), images_of(96)), ConfigError, "three data sets .*, got a tuple of 2"),
        ((images_of(96), images_of(96), None), DataError, "test split must be .*, got NoneType: hold some images back"),
        ([np.zeros((96, 3, 8, 8))] * 3, DataError, "train split must be .*, got ndarray"),
        ((images_of(96), images_of(96), [(torch.zeros(3, 8, 8), 7)]), DataError, r"in 0\.\.2 for 3 classes, got 7\.\.7 in the test split"),
    ],
)
def test_what_compress_cannot_take_for_splits_is_said(tmp_path, splits, error, words):
    with pytest.raises(error, match=words):
        triaxis.compress(resnet(8, num_classes=3), splits, budget="macs=50%", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plan_that_names_code_runs_it_only_with_leave(tmp_path, command):
    source = {"name": "os:mkdir", "args": {"path": str(tmp_path / "harm")}, "num_classes": 3, "side_px": 8, "in_channels": 3}
    plan = PrunePlan(num_blocks=1, num_channels=1, base_side_px=8, side_px=8)
    plain = {"plan": plan.to_json(), "source": ModelSource(**source).to_json(), "preprocess": Preprocess().to_json()}
    (tmp_path / "plan.json").write_text(json.dumps({**plain, "class_names": ["a", "b", "c"], "input": [3, 8, 8]}))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="allow_code=True"):
        triaxis.load(tmp_path)
    done = command("predict", tmp_path, tmp_path / "a.png")
    assert done.returncode == ConfigError.exit_code
    assert "os:mkdir" in done.stderr
    assert not (tmp_path / "harm").exists()
