"""What every metric and every runtime must do; a subclass gives the fixture `metric` or `runtime`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from triaxis.metrics.base import Metric, Shape
from triaxis.metrics.gauge import Gauge
from triaxis.metrics.runtimes.base import Runtime
from triaxis.values import metric_spec


def _network(channels: int) -> nn.Module:
    """Return a small convolutional network for three-channel images of any side."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()


def _weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


class MetricContract:
    """Subclass it under a name that pytest collects. `metric` must be overridden."""

    large, small = (64, (3, 32, 32)), (8, (3, 16, 16))
    """Channels and input shape of a network and of a far cheaper one."""

    @pytest.fixture
    def metric(self) -> Metric:
        """Return the metric under test."""
        raise NotImplementedError

    def test_its_key_can_be_written_in_a_budget(self, metric: Metric) -> None:
        assert metric_spec(metric.key).key == metric.key
        assert isinstance(metric.is_counted, bool)

    def test_a_reading_is_a_finite_number_above_zero(self, metric: Metric) -> None:
        reading = metric.prepare(_network(8), self.small[1])
        for found in (reading(), reading()):
            assert math.isfinite(found) and found > 0

    def test_a_counted_metric_gives_the_same_number_again(self, metric: Metric) -> None:
        if not metric.is_counted:
            pytest.skip("this metric is measured")
        first, second = (metric.prepare(_network(8), self.small[1]) for _ in range(2))
        assert first() == first() == second()

    def test_a_network_of_far_less_work_costs_less(self, metric: Metric) -> None:
        (channels, shape), (fewer, smaller) = self.large, self.small
        found = Gauge(metric, _network(channels), shape).measure(_network(fewer), smaller, seconds=0.2)
        assert found.ratio < 1

    def test_the_network_is_not_changed(self, metric: Metric) -> None:
        model = _network(8)
        before = _weights(model)
        metric.prepare(model, self.small[1])()
        assert not model.training
        assert all(torch.equal(a, b) for a, b in zip(before, _weights(model), strict=True))


class RuntimeContract:
    """Subclass it under a name that pytest collects. `runtime` must be overridden."""

    shape: Shape = (3, 16, 16)

    @pytest.fixture
    def runtime(self) -> Runtime:
        """Return the runtime under test."""
        raise NotImplementedError

    def test_it_has_a_name_and_can_work_here(self, runtime: Runtime) -> None:
        assert runtime.name
        runtime.require()

    @pytest.mark.parametrize("batch", [1, 4])
    def test_a_call_gives_its_milliseconds(self, runtime: Runtime, batch: int) -> None:
        found = runtime.prepare(_network(8), self.shape, batch)()
        assert math.isfinite(found) and found > 0

    def test_the_network_is_not_changed(self, runtime: Runtime) -> None:
        model = _network(8)
        before = _weights(model)
        runtime.prepare(model, self.shape, 1)()
        assert not model.training
        assert all(torch.equal(a, b) for a, b in zip(before, _weights(model), strict=True))
