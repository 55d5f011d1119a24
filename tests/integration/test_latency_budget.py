"""A latency budget on a busy machine, and a metric of the user's own, both from YAML to report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SMALL = """
threads: 1
precision: fp32
model: {name: "cifar:resnet14", args: {width: 0.5}}
data: {source: digits, side_px: 8, val_fraction: 0.2, test_fraction: 0.2, max_train_images: 320}
width: {round_to: 4}
base: {epochs: 2, batch_size: 64, crop_px: 1, flip: false}
collect:
  recipe: {epochs: 1, batch_size: 64, crop_px: 1, flip: false}
  num_trials: 4
  block_images: 64
  calibrate_images: 128
finetune: {epochs: 1, batch_size: 64, crop_px: 1, flip: false}
profile: {repeats: 18, batches: [1]}
export: {formats: [safetensors]}
"""

ENERGY = '''
"""An energy metric of the user's own: joules grow with the pixels and the weights."""

class Energy:
    key = "energy_mJ"
    is_counted = True

    def prepare(self, model, input_shape):
        weights = sum(p.numel() for p in model.parameters())
        return lambda: 1e-3 * weights * input_shape[1] * input_shape[2]
'''


SLOW = """
import inspect

class Slow:
    key, is_counted = "delay_ms", True

    def prepare(self, model, input_shape):
        is_finished = any(frame.function == "verify" for frame in inspect.stack())
        weights = sum(p.numel() for p in model.parameters())
        return lambda: float(weights) * (100.0 if is_finished and weights < 40000 else 1.0)
"""


def in_folder(folder: Path) -> dict[str, str]:
    """The environment of a process that finds the modules of a folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the small configuration with some lines more; modules in the folder are found."""
    monkeypatch.syspath_prepend(tmp_path)

    def with_lines(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "small.yaml").write_text(SMALL + text)
        return command("run", tmp_path / "small.yaml", "--out", tmp_path / "run")

    return with_lines


@pytest.fixture
def busy() -> Iterator[None]:
    """Other processes that load every core."""
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for process in spin:
        process.kill()
        process.wait()


def test_a_latency_budget_is_answered_on_a_busy_machine(tmp_path: Path, run: Run, busy: None) -> None:
    done = run('budget: "latency=60%"\n')
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    (check,) = summary["checks"]
    # Within budget, or said aloud: never a silent miss, and never a run that is given up.
    assert done.returncode == (0 if summary["is_within_budget"] else 15), done.stderr
    assert summary["is_within_budget"] == (check["low"] <= check["limit_share"])
    assert 0 < check["low"] <= check["share"] <= check["high"]
    assert check["share"] < 0.8
    assert f"{check['share']:.1%}"[:3] in (tmp_path / "run" / "report.html").read_text()


def test_a_missed_budget_ends_with_a_code_of_its_own(tmp_path: Path, run: Run) -> None:
    # As a device that is thrown out of a quiet hour: the finished model measures a hundred times what its cut did.
    (tmp_path / "slow.py").write_text(SLOW)
    done = run('metrics: {delay_ms: "slow:Slow"}\nbudget: "delay=50%"\n')
    assert done.returncode == 15, done.stderr
    assert "misses its delay budget" in done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["is_within_budget"] is False
    assert "Budget missed" in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "compressed" / "model.safetensors").exists()


def test_a_metric_of_the_users_own_goes_from_yaml_to_report(tmp_path: Path, run: Run) -> None:
    (tmp_path / "joules_of.py").write_text(ENERGY)
    done = run('metrics: {energy_mJ: "joules_of:Energy"}\nbudget: "energy=50%"\n')
    assert done.returncode == 0, done.stderr
    (check,) = json.loads((tmp_path / "run" / "summary.json").read_text())["checks"]
    assert check["budget"]["metric"] == "energy_mJ"
    assert check["share"] <= 0.5
    assert "energy at most 50" in (tmp_path / "run" / "report.html").read_text()
    words = [sys.executable, "-m", "triaxis", "solve", str(tmp_path / "run"), "--budget", "energy=40%", "--json"]
    answer = subprocess.run(words, capture_output=True, text=True, env=in_folder(tmp_path), timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["costs"]["energy_mJ"] <= 0.4 * check["budget"]["limit"] / 0.5
