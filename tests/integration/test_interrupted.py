"""A run that a batch queue signals, again and again, goes on each time and ends with the numbers of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch

from triaxis.stages import context

CONFIG = """
threads: 1
precision: fp32
model: {name: "cifar:resnet14", args: {width: 0.5}}
data: {source: digits, side_px: 8, val_fraction: 0.2, test_fraction: 0.2, max_train_images: 192}
budget: macs=60%
width: {round_to: 4}
base: {epochs: 4, batch_size: 32, crop_px: 1, flip: false}
collect:
  recipe: {epochs: 1, batch_size: 32, crop_px: 1, flip: false}
  num_trials: 4
  block_images: 64
  calibrate_images: 128
finetune: {epochs: 2, batch_size: 32, crop_px: 1, flip: false}
profile: {repeats: 3, batches: [1]}
export: {formats: [safetensors]}
"""


def numbers(out: Path) -> dict[str, Any]:
    """What must not depend on when the run was interrupted: all but times."""
    summary = json.loads((out / "summary.json").read_text())
    return without_clocks(summary)


CLOCKS = ("seconds", "seconds_by_part", "collection_time_ratio", "environment", "cost_model")


def without_clocks(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    return {k: without_clocks(v) for k, v in plain.items() if "latency" not in k and k not in CLOCKS}


def test_signals_within_the_stages_change_no_number(tmp_path, command, monkeypatch):
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG)
    torch.set_num_threads(2)
    assert command("run", config, "--out", tmp_path / "whole").returncode == 0
    real, seen = context.finetune, 0

    def counting(*args: Any, on_step: Any = None, **more: Any) -> Any:
        def told(*moment: Any) -> None:
            nonlocal seen
            seen += 1
            # Two moments in the base model's training (24 steps), one in the trials (6 each), one in the final fine-tune.
            if seen in (5, 16, 33, 52):
                os.kill(os.getpid(), signal.SIGUSR1)
            if on_step:
                on_step(*moment)

        return real(*args, on_step=told, **more)

    monkeypatch.setattr(context, "finetune", counting)
    codes = []
    while not codes or codes[-1] == 20:
        done = command("run", config, "--out", tmp_path / "stopped")
        codes.append(done.returncode)
        assert len(codes) < 9, done.stderr
    assert codes == [20, 20, 20, 20, 0], done.stderr
    assert seen == 24 + 4 * 6 + 12, "no step was made twice"
    assert torch.get_num_threads() == 2, "a run leaves the process's threads as they were"
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")
    assert [p.name for p in (tmp_path / "stopped").rglob("*") if p.suffix in (".part", ".resume")] == []
