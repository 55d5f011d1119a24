"""A whole run by two processes, as torchrun starts them: one writes, both end alike, and what cannot be says so in one sentence."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from triaxis.config import config_from_plain
from triaxis.errors import ConfigError
from triaxis.process.ranks import Ranks
from triaxis.stages.crew import require_able

_spec = importlib.util.spec_from_file_location("launched", Path(__file__).parents[1] / "unit" / "training" / "launched.py")
assert _spec is not None and _spec.loader is not None
launched = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(launched)

CONFIG = """
threads: 1
precision: fp32
model: {name: "cifar:resnet14", args: {width: 0.5}}
data: {source: digits, side_px: 8, val_fraction: 0.2, test_fraction: 0.2, max_train_images: 192}
budget: macs=60%
width: {round_to: 4}
base: {epochs: 3, batch_size: 32, crop_px: 1, flip: false}
collect:
  recipe: {epochs: 1, batch_size: 32, crop_px: 1, flip: false}
  num_trials: 4
  block_images: 64
  calibrate_images: 128
finetune: {epochs: 2, batch_size: 32, crop_px: 1, flip: false}
profile: {repeats: 3, batches: [1]}
export: {formats: [safetensors]}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def test_a_signal_stops_all_and_torchrun_goes_on(config, tmp_path):
    out = tmp_path / "out"
    started = launched.start(2, "-m", "triaxis", "run", config, "--out", out)
    deadline = time.monotonic() + 60
    while not (out / "checkpoints" / "base.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in started:
        process.send_signal(signal.SIGTERM)
    ends = launched.ended(started)
    assert [code for code, _ in ends] == [20, 20], ends
    assert "asked to stop by SIGTERM" in ends[0][1] and ends[1][1] == "", "one speaks for all"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "triaxis", "run", config]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "COLUMNS": "160"}
    done = subprocess.run([*map(str, words), "--out", str(out)], capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert 0.2 < summary["compressed"]["val_accuracy"] <= 1
    assert (done.stdout + done.stderr).count("prune done after") == 1
    assert (out / "report.html").exists() and not list((out / "checkpoints").glob("*.resume"))


def test_what_cannot_be_is_one_sentence(monkeypatch, command, tmp_path):
    with pytest.raises(ConfigError, match=r"collect.executor must be serial where torchrun starts 2 processes, got ray"):
        require_able(config_from_plain({"collect": {"executor": "ray"}}), Ranks(0, 2))
    with pytest.raises(ConfigError, match=r"finetune.batch_size must be at least two images for each of 40 processes, got 64"):
        require_able(config_from_plain({"finetune": {"batch_size": 64}}), Ranks(0, 40))
    for name, text in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, text)
    done = command("status", tmp_path)
    assert done.returncode == 3 and "torchrun must start one of the commands that train" in done.stderr


def test_a_process_that_is_killed_ends_the_other_at_once(config, tmp_path):
    started = launched.start(2, "-m", "triaxis", "run", config, "--out", tmp_path / "out")
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "progress.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started[1].kill()
    since = time.monotonic()
    (leader, said), _ = launched.ended(started)
    assert leader == 18 and "one is gone without a word" in said and time.monotonic() - since < 30
