"""The task of docs/extending.md: its contract holds, and its name in a configuration is enough to train by it."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

import triaxis
from triaxis.config import config_from_plain, load_config

page = runpy.run_path(str(Path(__file__).with_name("page.py")))
# The page's own tests: pytest collects them here.
TestHeading = page["modules"]("Task")["test_my_tasks"].TestHeading


def directions(num: int, seed: int) -> TensorDataset:
    """Return pictures that are brighter towards one side, and the direction of that side."""
    angles = 6.28 * torch.rand(num, generator=torch.Generator().manual_seed(seed))
    headings = torch.stack([angles.cos(), angles.sin()], 1)
    ramp = torch.linspace(-1, 1, 8)
    slopes = headings[:, 0, None, None] * ramp[None, None, :] + headings[:, 1, None, None] * ramp[None, :, None]
    return TensorDataset(slopes[:, None].repeat(1, 3, 1, 1), headings)


def test_a_configuration_can_name_it(tmp_path: Path) -> None:
    (tmp_path / "heading.yaml").write_text(page["examples"]("Task")["heading.yaml"], encoding="utf-8")
    few = {"batch_size": 16, "crop_px": 0, "flip": False, "distill": 0.0}  # the model comes untrained
    plain = {
        "task": load_config(tmp_path / "heading.yaml").task,
        "precision": "fp32",
        "threads": 1,
        "collect": {"num_trials": 4, "min_resolution": 0.9, "recipe": {"epochs": 1, **few}},
        "finetune": {"epochs": 6, **few},
        "width": {"round_to": 2},
        "profile": {"batches": [1], "repeats": 3},
        "export": {"formats": ["safetensors"]},
    }
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(32, 2))
    data = [directions(num, seed) for seed, num in enumerate((64, 32, 32))]
    found = triaxis.compress(model, data, budget="macs=50%", out=tmp_path / "run", config=config_from_plain(plain))
    assert found.summary["compressed"]["test_accuracy"] > 0.7
