"""The multiple of channels that pays, on runtimes whose likes are known."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from triaxis.metrics import multiples
from triaxis.metrics.multiples import best_multiple
from triaxis.stages import costs


class Padding:
    """A runtime that fills channels up to a multiple, and takes time for what it filled up, and a little for each call."""

    name = "padding"

    def __init__(self, to: int, refuses: int = 0) -> None:
        self.to, self.refuses = to, refuses

    def require(self) -> None:
        pass

    def prepare(self, model, input_shape, batch):
        channels = input_shape[0]
        if channels == self.refuses:
            raise RuntimeError("no kernel")
        return lambda: 1e-2 + (math.ceil(channels / self.to) * self.to) ** 2 * 1e-4


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiples, "SECONDS", 0.0)


@pytest.mark.parametrize(("to", "expected"), [(1, 8), (8, 8), (16, 16), (32, 32)])
def test_the_multiple_that_the_runtime_fills_up_to_is_found(to: int, expected: int) -> None:
    assert best_multiple(Padding(to)) == expected


def test_a_count_that_is_refused_is_left_out() -> None:
    assert best_multiple(Padding(1, refuses=120)) == 16


def test_where_nothing_can_be_measured_the_smallest_is_taken() -> None:
    assert best_multiple(Padding(1, refuses=multiples.REFERENCE)) == 8


def test_auto_is_measured_once_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    records: dict[str, object] = {}
    asked = []
    monkeypatch.setattr(costs, "make_runtime", lambda name, device, commands: asked.append(name) or Padding(16))
    config = SimpleNamespace(
        width=SimpleNamespace(round_to="auto"),
        budgets=[SimpleNamespace(metric="macs"), SimpleNamespace(metric="latency_ms@openvino-1t")],
        profile=SimpleNamespace(runtime="eager", commands={}, latency_batch=1),
    )
    run = SimpleNamespace(config=config, store=SimpleNamespace(record=records.get, put_record=records.__setitem__))
    assert [costs.round_to(run, torch.device("cpu")) for _ in range(2)] == [16, 16]
    assert asked == ["openvino-1t"]
    config.width.round_to = 4
    assert costs.round_to(run, torch.device("cpu")) == 4
