"""The throughput benchmark: what is timed, and what is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import throughput


def test_the_first_steps_are_not_timed() -> None:
    assert throughput.step_seconds([100.0, 107.0, 108.0, 110.0, 110.5, 111.0, 111.5]) == pytest.approx(0.5)


def test_the_plain_loop_sees_normalised_pictures_of_the_right_shape() -> None:
    data = throughput.Pictures(np.full((2, 32, 32, 3), 255, dtype=np.uint8), np.array([1, 3]))
    image, label = data[1]
    assert image.shape == (3, 32, 32)
    assert image.max().item() == pytest.approx((1 - 0.5) / 0.25)
    assert label == 3


@pytest.fixture
def _one_thread():
    """Small steps on several threads crawl where other processes want the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_the_results_are_consistent(tmp_path: Path) -> None:
    words = ["--network", "cifar:resnet8", "--steps", "6", "--rounds", "1", "--batch", "8", "--workers", "0", "--cpu"]
    assert throughput.main([*words, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "throughput.json").read_text())
    rates = found["images_per_second"]
    assert set(rates) == {"plain loop, 0 workers", "triaxis", "forward and backward alone"}
    assert found["speedup_over_plain"] == pytest.approx(rates["triaxis"] / rates["plain loop, 0 workers"])
    assert found["share_in_model"] == pytest.approx(rates["triaxis"] / rates["forward and backward alone"])
    assert found["share_of_peak"] is None
    assert f"{found['speedup_over_plain']:.2f} x" in (tmp_path / "throughput.md").read_text()


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(SystemExit):
        throughput.main(["--steps", "3"])
