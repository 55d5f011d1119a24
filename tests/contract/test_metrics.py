"""The metrics and runtimes in the box keep their contracts."""

from __future__ import annotations

import pytest
import torch

from triaxis.errors import ConfigError
from triaxis.metrics.make import make_metric
from triaxis.metrics.runtimes import RUNTIMES, make_runtime
from triaxis.testing import MetricContract, RuntimeContract
from triaxis.values import METRICS

CPU = torch.device("cpu")


@pytest.mark.parametrize("key", [*METRICS, "latency_ms@onnxruntime"])
class TestMetrics(MetricContract):
    @pytest.fixture
    def metric(self, key):
        return make_metric(key, batch=1, runtime="eager", device=CPU)


@pytest.mark.parametrize("name", [name for name in RUNTIMES if name != "compile"])  # compiling takes a minute
class TestRuntimes(RuntimeContract):
    @pytest.fixture
    def runtime(self, name):
        return make_runtime(name, CPU)


def test_a_misspelt_runtime_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean onnxruntime"):
        make_runtime("onnxruntim", CPU)


def test_only_latency_has_a_runtime() -> None:
    with pytest.raises(ConfigError, match="leave '@eager' out"):
        make_metric("macs@eager", batch=1, runtime="eager", device=CPU)


def test_a_metric_must_have_the_key_it_is_named_by() -> None:
    with pytest.raises(ConfigError, match="key is 'energy_mJ'"):
        make_metric("energy_mJ", batch=1, runtime="eager", device=CPU, own={"energy_mJ": "triaxis.metrics.counted:MacsMetric"})
