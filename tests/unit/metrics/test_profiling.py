"""Costs counted and measured: against published counts, against torch's own counter, against arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2, resnet50

from triaxis.errors import RefusedModelError
from triaxis.metrics.base import Reading
from triaxis.metrics.gauge import Gauge
from triaxis.metrics.latency import half_spread, measure_latency, read_for
from triaxis.metrics.macs import count_macs, count_params
from triaxis.metrics.memory import measure_memory
from triaxis.metrics.runtimes.base import timed
from triaxis.metrics.table import count_costs, with_measured
from triaxis.models.cifar import densenet, resnet
from triaxis.store import MemoryStore
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import CostTable


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


class Parameters:
    """A metric whose cost is known, as if it were measured: parameters, times what the machine is slowed down by."""

    key, is_counted = "work_ms", False

    def __init__(self, slowness: Iterator[float]) -> None:
        self.slowness = slowness

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> Reading:
        return lambda: count_params(model) * next(self.slowness)


def measured(table, surgeon, order, slowness: Iterator[float]):
    gauge = Gauge(Parameters(slowness), surgeon.base, (3, 16, 16))
    return with_measured(table, surgeon, order, gauge, in_channels=3, seconds=0.0, advance=lambda share, note: None)


def test_a_measured_metric_is_interpolated_between_its_samples(surgeon, order, table):
    """A cost that is a power of each axis is linear in the logs along each axis only at the samples; both ends must be exact."""
    full = measured(table, surgeon, order, itertools.repeat(1.0))
    made, true = torch.tensor(full.costs["work_ms"]), torch.tensor(full.costs["params"])
    for corner in itertools.product((0, -1), (0, -1), (0, -1)):
        assert made[corner] == pytest.approx(true[corner].item())
    assert ((made - true).abs() / true).max() < 0.25
    assert full.costs["macs"] == table.costs["macs"]


def test_the_error_of_cuts_outside_the_sample_is_told(surgeon, order, table):
    full = measured(table, surgeon, order, itertools.repeat(1.0))
    median, tail = full.errors["work_ms"]
    assert 0 <= median <= tail < 0.1, "the metric is one that was counted: the features explain it"
    assert CostTable.from_json(full.to_json()) == full
    assert set(full.errors) == {"work_ms"}


def test_a_cut_that_the_runtime_refuses_is_predicted_from_the_others(surgeon, order, table, caplog):
    class Refusing(Parameters):
        def prepare(self, model, input_shape):
            if input_shape[-1] == min(table.sides_px) and count_params(model) == count_params(surgeon.base):
                raise RefusedModelError("The runtime must run every cut, but it refuses one: no kernel for HardSwish.")
            return super().prepare(model, input_shape)

    gauge = Gauge(Refusing(itertools.repeat(1.0)), surgeon.base, (3, 16, 16))
    full = with_measured(table, surgeon, order, gauge, in_channels=3, seconds=0.0, advance=lambda share, note: None)
    made, true = full.costs["work_ms"][0][0][-1], full.costs["params"][0][0][-1]
    assert made == pytest.approx(true, rel=0.1)
    assert "HardSwish" in caplog.text


class Counting(Parameters):
    """Counts the networks that are prepared."""

    def __init__(self) -> None:
        super().__init__(itertools.repeat(1.0))
        self.prepared = 0

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> Reading:
        self.prepared += 1
        return super().prepare(model, input_shape)


def test_a_cut_that_was_measured_is_not_measured_again(surgeon, order, table):
    """Not by another process, and not where the order of the blocks is another: the cuts that keep all blocks are the same."""
    store, shared = MemoryStore(), {"in_channels": 3, "seconds": 0.0, "advance": lambda share, note: None}

    def num_prepared(blocks):
        metric = Counting()
        full = with_measured(table, surgeon, blocks, Gauge(metric, surgeon.base, (3, 16, 16), store), **shared)
        return metric.prepared, full

    num_first, first = num_prepared(order)
    assert num_first > 20
    assert num_prepared(order) == (1, first), "the base model alone"
    num_other, _ = num_prepared((*order[1:], order[0]))
    assert 1 < num_other < num_first
    assert num_prepared((*order[1:], order[0]))[0] == 1


def test_a_cut_is_measured_again_for_a_longer_time(surgeon):
    metric, small = Counting(), surgeon.cut(surgeon.plan(width=0.5))
    gauge = Gauge(metric, surgeon.base, (3, 16, 16), MemoryStore())
    for seconds, num in ((0.0, 2), (0.0, 2), (0.001, 3)):
        gauge.sample(small, (3, 16, 16), seconds=seconds)
        assert metric.prepared == num


def test_a_machine_that_is_busy_for_a_while_does_not_change_the_table(surgeon, order, table):
    """Other work that comes and goes over many rounds slows the base model and the cut alike; the quietest turns give the level."""
    busy = itertools.chain.from_iterable(itertools.repeat(1.0 if n % 3 == 0 else 4.0, 500) for n in itertools.count())
    full, quiet = measured(table, surgeon, order, busy), measured(table, surgeon, order, itertools.repeat(1.0))
    assert torch.tensor(full.costs["work_ms"]) == pytest.approx(torch.tensor(quiet.costs["work_ms"]), rel=1e-6)


def test_a_metric_is_measured_with_the_widths_that_were_counted(surgeon, order):
    """With one ranking of all channels, each group keeps another number than with the same ratio everywhere."""
    table = count_costs(surgeon, order, min_depth=0.3, in_channels=3, importance="l1", scope="global")
    gauge = Gauge(Parameters(itertools.repeat(1.0)), surgeon.base, (3, 16, 16))
    full = with_measured(
        table, surgeon, order, gauge, in_channels=3, seconds=0.0, advance=lambda share, note: None, importance="l1", scope="global"
    )
    made, true = torch.tensor(full.costs["work_ms"]), torch.tensor(full.costs["params"])
    assert made[0, -1, 0] == pytest.approx(true[0, -1, 0].item())


def test_a_latency_is_read_at_least_a_few_times():
    reading = iter([3.0, 1.0, 2.0, 5.0, 4.0, 100.0, 2.5, 9.0]).__next__
    found = read_for(reading, seconds=0, min_runs=7)
    assert len(found) == 7
    assert half_spread(found) == pytest.approx((5.0 - 2.0) / 2)


def test_a_call_is_warmed_up_before_it_is_timed():
    calls = []
    reading = timed(lambda: calls.append(1))
    assert len(calls) == 3
    assert reading() >= 0 and len(calls) == 4


def test_a_larger_batch_takes_longer():
    model = resnet(8)
    one, many = (measure_latency(model, (3, 32, 32), batch=b, seconds=0.1).median_ms for b in (1, 32))
    assert many > 2 * one > 0


def test_onnxruntime_and_eager_measure_the_same_network():
    pytest.importorskip("onnxruntime")
    assert measure_latency(resnet(8), (3, 16, 16), batch=2, runtime="onnxruntime", seconds=0.05).median_ms > 0


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


class Attending(nn.Module):
    """Attention written out, with a weight that is a plain parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.weight = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(8, 24))

    def forward(self, x):
        q, k, v = (self.stem(x).flatten(2).transpose(1, 2) @ self.weight).chunk(3, -1)
        return ((q @ k.transpose(1, 2)).softmax(-1) @ v).mean(1)


def test_products_of_activations_and_plain_weights_count():
    tokens = 16
    assert count_macs(Attending(), (3, 16, 16)) == tokens * (3 * 16 * 8 + 8 * 24) + 2 * tokens * tokens * 8


def test_fused_attention_counts_as_its_two_products():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), Transposed(), model)
    assert count_macs(net, (3, 16, 16)) == 16 * (3 * 16 * 8 + 4 * 8 * 8 + 2 * 8 * 16) + 2 * 16 * 16 * 8


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


@pytest.mark.parametrize("name", ["test_vit", "botnet26t_256", "xcit_nano_12_p16_224", "levit_128s", "resnet18"])
def test_macs_of_timm_models_are_half_of_torchs_flops(name):
    model, side = timm.create_model(name, num_classes=10), {"test_vit": 160, "botnet26t_256": 256}.get(name, 224)
    assert count_macs(model, (3, side, side)) == by_torch(model, side)


def test_a_fixed_blur_does_not_count():
    """torch counts the convolution with a filter that nobody learns; a plan cannot change it, and it is no layer."""
    net = timm.create_model("resnetblur18", num_classes=10)
    assert 0 < by_torch(net, 64) - count_macs(net, (3, 64, 64)) < 0.01 * by_torch(net, 64)
