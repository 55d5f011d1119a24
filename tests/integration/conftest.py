"""A whole run in small: scanned digits at 8 px and a narrow ResNet-14, a few seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.config import Config, load_config

TINY = """
seed: 1
threads: 1
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


def in_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which has imported torch already."""
    words = [str(a) for a in arguments]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def on_its_own(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user does."""
    words = [sys.executable, "-m", "triaxis", *(str(a) for a in arguments)]
    environment = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.fixture(scope="session")
def command() -> Command:
    """The command line, as a function."""
    return in_process


@pytest.fixture(scope="session")
def process() -> Command:
    """The command line in a process of its own."""
    return on_its_own


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_file: Path) -> Config:
    return load_config(tiny_file)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_file: Path, process: Command) -> Path:
    """The directory of an undisturbed run, made by the command line as a user would."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = process("run", tiny_file, "--out", out)
    assert done.returncode == 0, done.stderr
    (out.parent / "stderr.txt").write_text(done.stderr)
    return out


@pytest.fixture(autouse=True)
def _one_thread():
    """Whatever a test before has set."""
    torch.set_num_threads(1)
