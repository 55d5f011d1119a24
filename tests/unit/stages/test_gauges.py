"""The gauges of a run: one for each metric in a process, so that the base model is prepared once for all stages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from triaxis.metrics.base import Reading
from triaxis.stages import costs
from triaxis.stages.context import Base
from triaxis.store import MemoryStore


class Counting:
    """A metric that counts the networks it prepares."""

    key, is_counted = "work_ms", False

    def __init__(self) -> None:
        self.prepared: list[nn.Module] = []

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> Reading:
        self.prepared.append(model)
        return lambda: 1.0


def test_the_base_model_is_prepared_once_for_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    metric, network, cut = Counting(), nn.Linear(2, 2), nn.Linear(2, 1)
    monkeypatch.setattr(costs, "metric_of", lambda run, trainer, key: metric)
    source, run = SimpleNamespace(in_channels=3, side_px=8), SimpleNamespace(store=MemoryStore())
    base = Base(source=source, surgeon=SimpleNamespace(base=network), digest="")  # type: ignore[arg-type]
    for _ in range(3):
        costs.gauge_of(run, base, None, "work_ms").measure(cut, (3, 8, 8), seconds=0.0)  # type: ignore[arg-type]
    assert metric.prepared.count(network) == 1
    assert metric.prepared.count(cut) == 3
