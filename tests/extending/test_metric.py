"""The metric and the runtime of docs/extending.md: their contracts hold, and a configuration can name them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from triaxis.config import load_config
from triaxis.metrics.make import make_metric
from triaxis.values import BudgetSpec

page = runpy.run_path(str(Path(__file__).with_name("page.py")))
# The page's own tests: pytest collects them here.
TestEnergy = page["modules"]("Metric")["test_my_metrics"].TestEnergy
TestExported = page["modules"]("Runtime")["test_my_runtime"].TestExported


def test_a_configuration_can_name_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.yaml").write_text(page["examples"]("Metric")["energy.yaml"], encoding="utf-8")
    config = load_config(tmp_path / "run.yaml")
    assert config.budgets == (BudgetSpec(metric="energy_mJ", fraction=0.5),)
    counter = tmp_path / "energy_uj"
    counter.write_text("0")
    metric = make_metric("energy_mJ", batch=1, runtime="eager", device=torch.device("cpu"), own=config.metrics)
    monkeypatch.setitem(metric.prepare.__globals__, "COUNTER", counter)  # type: ignore[attr-defined]

    class Burning(torch.nn.Module):
        """A network of which each image takes 3 mJ."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            counter.write_text(str(int(counter.read_text()) + 3000))
            return images

    assert metric.prepare(Burning(), (3, 8, 8))() == pytest.approx(3.0)


def test_a_configuration_can_name_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(page["examples"]("Runtime")["runtime.yaml"], encoding="utf-8")
    config = load_config(tmp_path / "run.yaml")
    assert make_metric("latency_ms", batch=1, runtime=config.profile.runtime, device=torch.device("cpu")).key == "latency_ms"
