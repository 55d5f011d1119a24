"""A whole run in small: scanned digits at 8 px and a narrow ResNet-14, a few seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from triaxis.config import Config, load_config

TINY = """
seed: 1
threads: 2
precision: bf16  # the choice is timed, and two runs may not choose alike
model: {name: "cifar:resnet14", args: {width: 0.5}}
data: {source: digits, side_px: 8, val_fraction: 0.2, test_fraction: 0.2, max_train_images: 320}
budget: macs=50%
width: {round_to: 4}
base: {epochs: 12, batch_size: 32, crop_px: 1, flip: false}
collect:
  recipe: {epochs: 2, batch_size: 32, crop_px: 1, flip: false}
  num_trials: 6
  block_images: 64
  calibrate_images: 128
finetune: {epochs: 3, batch_size: 32, crop_px: 1, flip: false}
profile: {repeats: 5, batches: [1, 8]}
"""


Command = Callable[..., subprocess.CompletedProcess[str]]


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    environment = {**os.environ, "COLUMNS": "160"}
    words = [sys.executable, "-m", "triaxis", *(str(a) for a in arguments)]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.fixture(scope="session")
def command() -> Command:
    """The command line, as a function."""
    return run_command


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_file: Path) -> Config:
    return load_config(tiny_file)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_file: Path, command: Command) -> Path:
    """The directory of an undisturbed run, made by the command line as a user would."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = command("run", tiny_file, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(2)
