"""Several networks of a grid at once on one GPU, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triaxis.study.grid import run_grid
from triaxis.study.grid_config import GridConfig
from triaxis.study.grid_train import open_bench

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

PLAIN = {
    "depths": [8, 14],
    "widths": [0.5, 1.0],
    "sides_px": [6, 8],
    "device": "cuda",
    "precision": "bf16",
    "workers": 2,
    "recipe": {"epochs": 2, "batch_size": 64, "crop_px": 1},
    "data": {"source": "digits", "side_px": 8},
}


def test_networks_side_by_side(tmp_path: Path) -> None:
    config = GridConfig.model_validate(PLAIN)
    report = run_grid(config, tmp_path / "grid")
    assert len(report.finished) == len(config.places()) == 7 and not report.failed
    assert report.trainer is not None and 0 < report.trainer.share_of_peak < 1


def test_the_images_live_on_the_device(tmp_path: Path) -> None:
    bench = open_bench(GridConfig.model_validate(PLAIN), tmp_path)
    assert next(iter(bench.train.in_order(8, limit=1))).images.is_cuda


def test_a_compiled_network_gives_a_result(tmp_path: Path) -> None:
    config = GridConfig.model_validate({**PLAIN, "compile": True, "cells": ["a"], "sides_px": [8]})
    bench = open_bench(config, tmp_path)
    assert bench.attempt(config.networks(bench.data_digest)[0]).error is None
