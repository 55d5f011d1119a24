"""Costs counted and measured: against published counts, against torch's own counter, against arithmetic."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2, resnet50

from triaxis import collect
from triaxis.config import config_from_plain
from triaxis.models.cifar import densenet, resnet
from triaxis.profiling.costs import count_costs, with_measured
from triaxis.profiling.latency import measure_latency, summarise, time_calls
from triaxis.profiling.macs import count_macs, count_params
from triaxis.profiling.memory import measure_memory
from triaxis.surgery.surgeon import Surgeon


def by_torch(model: nn.Module, side: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("make", [lambda: resnet(20), lambda: densenet(16), lambda: mobilenet_v2(num_classes=10)])
def test_macs_are_half_of_torchs_flops(make):
    model = make()
    assert count_macs(model, (3, 32, 32)) == by_torch(model, 32)


def test_published_macs_are_met():
    assert count_macs(resnet(56), (3, 32, 32)) == pytest.approx(125.5e6, rel=0.01)
    assert count_macs(resnet50(), (3, 224, 224)) == pytest.approx(4.09e9, rel=0.002)


def test_a_layer_used_twice_counts_twice():
    layer = nn.Conv2d(3, 3, 1, bias=False)
    assert count_macs(nn.Sequential(layer, layer), (3, 4, 4)) == 2 * 9 * 16


def test_linear_layers_on_maps_count_every_position():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 5)

        def forward(self, x):
            return self.linear(x.permute(0, 2, 3, 1)).mean((1, 2))

    assert count_macs(Tokens(), (3, 4, 4)) == 15 * 16


@pytest.fixture(scope="module")
def surgeon() -> Surgeon:
    return Surgeon.examine(resnet(14), side_px=16, round_to=8)


@pytest.fixture(scope="module")
def order(surgeon) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    while left := surgeon.removable(surgeon.plan(removed_blocks=found)):
        found = (*found, left[0])
    return found


@pytest.fixture(scope="module")
def table(surgeon, order):
    return count_costs(surgeon, order, min_depth=0.3, in_channels=3)


def test_the_table_holds_the_cost_of_the_really_cut_model(surgeon, order, table):
    levels = [range(len(x)) for x in (table.blocks, table.widths, table.sides_px)]
    for i, j, k in list(itertools.product(*levels))[::17]:
        plan = surgeon.plan(removed_blocks=order[:i], width=table.widths[j], side_px=table.sides_px[k])
        cut = surgeon.cut(plan)
        assert table.costs["macs"][i][j][k] == count_macs(cut, (3, plan.side_px, plan.side_px))
        assert table.costs["params"][i][j][k] == count_params(cut)


def test_costs_fall_on_every_axis(table):
    cube = torch.tensor(table.costs["macs"])
    for axis in range(3):
        assert (cube.diff(dim=axis) < 0).all()


def test_the_base_model_is_the_first_level(table):
    assert table.base_cost("macs") == count_macs(resnet(14), (3, 16, 16))
    assert (table.depth[0], table.width[0], table.resolution[0]) == (1, 1, 1)


def test_a_measured_metric_is_interpolated_between_its_samples(surgeon, order, table):
    """A cost that is a power of each axis is linear in the logs along each axis only at the samples; both ends must be exact."""
    full = with_measured(table, surgeon, order, "latency_ms", lambda model, side: float(count_params(model)), lambda share, note: None)
    made, true = torch.tensor(full.costs["latency_ms"]), torch.tensor(full.costs["params"])
    for corner in itertools.product((0, -1), (0, -1), (0, -1)):
        assert made[corner] == pytest.approx(true[corner].item())
    assert ((made - true).abs() / true).max() < 0.25
    assert full.costs["macs"] == table.costs["macs"]


def test_latency_has_median_and_spread():
    found = summarise([3.0, 1.0, 2.0, 5.0, 4.0, 100.0, 2.5], 4)
    assert (found.median_ms, found.batch, found.runs) == (3.0, 4, 7)
    assert found.spread_ms == pytest.approx((5.0 - 2.0) / 2)


def test_calls_are_warmed_up_and_counted():
    calls = []
    times = time_calls(lambda: calls.append(1), seconds=0, warmup=2, min_runs=5)
    assert len(times) == 5 and len(calls) == 7


def test_a_larger_batch_takes_longer():
    model = resnet(8)
    one, many = (measure_latency(model, (3, 32, 32), batch=b, seconds=0.1).median_ms for b in (1, 32))
    assert many > 2 * one > 0


def test_onnxruntime_and_eager_measure_the_same_network():
    pytest.importorskip("onnxruntime")
    assert measure_latency(resnet(8), (3, 16, 16), batch=2, backend="onnxruntime", seconds=0.05).median_ms > 0


def test_memory_is_weights_input_and_the_largest_living_activations():
    model = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(4, 8, 1, bias=False), nn.Conv2d(8, 2, 1, bias=False))
    weights, image, pixels = (4 + 32 + 16) * 4, 2 * 1 * 100 * 4, 2 * 100 * 4
    # While the second layer runs, its input (4 channels) and its output (8) are alive; in the third 8 and 2.
    assert measure_memory(model, (1, 10, 10), 2) == weights + image + 12 * pixels


def test_memory_falls_with_the_side_and_grows_with_the_batch():
    model = resnet(8)
    small, large, batch = (
        measure_memory(model, (3, 16, 16), 1),
        measure_memory(model, (3, 32, 32), 1),
        measure_memory(model, (3, 32, 32), 4),
    )
    assert small < large < batch


def test_a_measured_metric_is_sampled_on_the_cuts_that_were_counted(surgeon, order):
    """Under the global scope other channels go than under the uniform one: a sample must be of the same cuts."""
    how = {"importance": "l1", "scope": "global"}
    counted = count_costs(surgeon, order, min_depth=0.3, in_channels=3, **how)
    made = with_measured(counted, surgeon, order, "memory_bytes", lambda m, side: float(count_params(m)), lambda share, note: None, **how)
    found, true = torch.tensor(made.costs["memory_bytes"]), torch.tensor(counted.costs["params"])
    for corner in itertools.product((0, -1), (0, -1), (0, -1)):
        assert found[corner] == pytest.approx(true[corner].item())


def test_a_run_measures_the_cuts_that_it_counts(surgeon, order, monkeypatch):
    asked = []

    def plan(**how):
        asked.append((type(how.get("importance")).__name__, how.get("scope")))
        return Surgeon.plan(surgeon, **how)

    monkeypatch.setattr(collect, "measured_cost", lambda bench, metric, seconds: lambda model, side: 1.0)
    monkeypatch.setattr(surgeon, "plan", plan)
    config = config_from_plain({"budget": "memory=50%", "width": {"scope": "global"}, "collect": {"min_depth": 0.7}})
    stage = nullcontext(lambda share, note: None)
    bench = SimpleNamespace(config=config, surgeon=surgeon, source=SimpleNamespace(in_channels=3), timed=lambda name: stage)
    table = collect.cost_table(bench, order)
    samples = [n for n, how in enumerate(asked) if how == ("L2", "global")]
    assert "memory_bytes" in table.costs and len(samples) == len([how for how in asked if how[1] == "global"]) > len(table.widths) + 5
    assert len(asked) - len(samples) <= 1  # the identity, to count the blocks
