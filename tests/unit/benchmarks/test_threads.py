"""The benchmark of threads: what is measured, and what is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import threads

from triaxis.training.machine import num_threads


@pytest.fixture
def _one_thread():
    """Small steps on several threads crawl where other processes want the same cores."""
    with num_threads(1):
        yield


def test_speed_counts_whole_steps_after_the_first_or_in_the_last_part() -> None:
    stamps = threads.Stamps(seconds=9.0, batch=10)
    stamps.times = [0.0, 1.0, 2.0, 4.0, 8.0]
    assert stamps.images_per_second == pytest.approx(10 * 4 / 8)
    stamps.late = 0.5
    assert stamps.images_per_second == pytest.approx(10 * 1 / 4)


@pytest.mark.usefixtures("_one_thread")
def test_a_measurement_trains_for_real_and_ends_its_load(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    real = threads.subprocess.Popen
    monkeypatch.setattr(threads, "BUSY", "import time; time.sleep(60)")
    monkeypatch.setattr(threads.subprocess, "Popen", lambda *args, **more: started.append(real(*args, **more)) or started[-1])
    found = threads.measure("cifar:resnet8", 8, 4, num_busy=1, seconds=0.05)
    assert set(found["fixed"]) == {"1"} and found["fixed"]["1"] > 0
    assert found["chosen"] == 1 and found["chosen_speed"] > 0
    assert len(started) == 1 and started[0].returncode is not None
    later = threads.measure_later("cifar:resnet8", 8, 4, num_busy=1, seconds=0.02)
    assert len(started) == 2 and started[1].returncode is not None and later["after"] == 1
    assert torch.get_num_threads() == 1


def test_shares_compare_with_the_best_of_the_same_load() -> None:
    def run(fast: float, slow: float, own: float) -> dict:
        return {"fixed": {"2": fast, "1": slow}, "chosen": 2, "chosen_speed": own, "choice_seconds": 1.0}

    net = ("cifar:resnet20", 8, 32)
    rows = [
        threads.row(net, 0, "passive", [run(100.0, 50.0, 90.0), run(80.0, 50.0, 90.0), run(100.0, 50.0, 70.0)]),
        threads.row(net, 0, "library's own", [run(120.0, 50.0, 60.0)]),
        threads.row(net, 1, "passive", [run(1.0, 50.0, 45.0)]),
    ]
    found = threads.with_shares(rows)
    assert [r["share_of_best"] for r in found] == [pytest.approx(90 / 120), pytest.approx(0.5), pytest.approx(0.9)]
    later = [{"network": net[0], "before": 2, "after": 1, "speed": 45.0, "share_of_best": 0.9}]
    result = {"rows": found, "later": later, "device": "cpu", "cores": 2, "versions": {"torch": "2"}, "rounds": 3, "seconds": 4.0}
    page = threads.markdown(result)
    assert "| cifar:resnet20, 8 px | 0 | passive | 100 | 50 | 90 on 2, 2, 2 | 75% |" in page
    assert "at least 75% of the best choice; the target of 80% is missed" in page
