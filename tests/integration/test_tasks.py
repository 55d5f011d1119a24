"""Tasks from data to a finished run: pictures are made here, and the numbers that the networks must learn are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import triaxis
from triaxis.config import config_from_plain
from triaxis.errors import DataError
from triaxis.stages.pipeline import run
from triaxis.store.directory import RunDirectory

FEW = {"batch_size": 16, "crop_px": 0, "flip": False, "peak_lr": 0.05}
PLAIN = {
    "precision": "fp32",
    "threads": 1,
    "budget": "macs=60%",
    "model": {"name": "cifar:resnet8", "args": {"width": 0.5}},
    "base": {"epochs": 6, **FEW},
    "collect": {"num_trials": 4, "min_resolution": 0.9, "recipe": {"epochs": 1, **FEW}},
    "finetune": {"epochs": 2, **FEW},
    "width": {"round_to": 2},
    "profile": {"batches": [1], "repeats": 3},
    "export": {"formats": ["safetensors"]},
}


def pictures(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return grey noise with a bright square in any of the four corners, each with chance 1/2, and which corners are bright."""
    generator = torch.Generator().manual_seed(seed)
    images = 40 * torch.rand(num, 3, 8, 8, generator=generator)
    corners = torch.rand(num, 4, generator=generator) < 0.5
    for corner in range(4):
        top, left = 5 * (corner // 2), 5 * (corner % 2)
        images[:, :, top : top + 3, left : left + 3] += 180.0 * corners[:, corner, None, None, None]
    return images.to(torch.uint8), corners


def bright_corners() -> list[TensorDataset]:
    """Labels of the task multi_label: which corners are bright."""
    return [TensorDataset(x, y.long()) for x, y in (pictures(num, seed) for seed, num in enumerate((256, 64, 64)))]


def number_of_bright_corners() -> list[TensorDataset]:
    """Targets of the task regression: how many corners are bright, and how many of them above."""
    made = [pictures(num, seed) for seed, num in enumerate((256, 64, 64))]
    return [TensorDataset(x, torch.stack([y.sum(1), y[:, :2].sum(1)], 1).float()) for x, y in made]


@pytest.mark.parametrize(("task", "data"), [("multi_label", "bright_corners"), ("regression", "number_of_bright_corners")])
def test_a_run_learns_and_prunes(task: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corners.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(tmp_path)
    outcome = run(config_from_plain({**PLAIN, "task": task, "data": f"corners:{data}"}), tmp_path / "run")
    summary = outcome.summary
    base, cut = summary["base"], summary["compressed"]
    assert base["test_accuracy"] > 0.6 and cut["macs"] <= 0.6 * base["macs"] and cut["test_accuracy"] > 0.4
    assert cut["test_interval"][0] <= cut["test_accuracy"] <= cut["test_interval"][1]
    with RunDirectory(tmp_path / "run").read() as store:
        trials = store.trials()
    assert trials and all(t.val_interval and t.val_interval[0] <= (t.val_accuracy or 0) <= t.val_interval[1] for t in trials)


def test_compress_takes_the_task_from_its_configuration(tmp_path: Path) -> None:
    """The criterion looks at gradients, so that the loss of the task decides which channels stay."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2),
    )  # fmt: skip
    config = config_from_plain({**PLAIN, "task": "regression", "width": {"round_to": 2, "importance": "taylor"}})
    found = triaxis.compress(model, number_of_bright_corners(), budget="macs=50%", out=tmp_path / "run", config=config)
    assert found.model(torch.zeros(1, 3, found.solution.side_px, found.solution.side_px)).shape == (1, 2)
    assert found.report().exists()


def test_labels_of_another_task_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    config = config_from_plain({**PLAIN, "task": "multi_label", "data": "digits"})
    with pytest.raises(DataError, match="for the task multi_label"):
        run(config, tmp_path / "run")
    assert not list(tmp_path.glob("run/checkpoints/*"))
