"""The metrics and runtimes in the box keep their contracts."""

from __future__ import annotations

import sys

import pytest
import torch

from triaxis.config.tree import RUNTIMES as NAMES
from triaxis.config.tree import DeviceConfig
from triaxis.errors import ConfigError
from triaxis.metrics.make import make_metric
from triaxis.metrics.runtimes import RUNTIMES, make_runtime
from triaxis.testing import MetricContract, RuntimeContract
from triaxis.values import METRICS

CPU = torch.device("cpu")
SLEEPER = f'{sys.executable} -c "import sys; print(len(sys.stdin.buffer.read()) / 1e3)"'
"""A device whose milliseconds are the kilobytes of the file."""
COMMANDS = {"command": DeviceConfig(command=SLEEPER)}


@pytest.mark.parametrize("key", [*METRICS, "latency_ms@onnxruntime"])
class TestMetrics(MetricContract):
    @pytest.fixture
    def metric(self, key):
        return make_metric(key, batch=1, runtime="eager", device=CPU)


# Compiling takes a minute.
WITH_PARTS = ("eager-1t", "eager-bf16", "onnxruntime-int8", "openvino-1t-int8", "command")


@pytest.mark.parametrize("name", [*(name for name in RUNTIMES if name != "compile"), *WITH_PARTS])
class TestRuntimes(RuntimeContract):
    @pytest.fixture
    def runtime(self, name):
        return make_runtime(name, CPU, commands=COMMANDS)


def test_the_configuration_knows_the_names_of_the_box() -> None:
    assert tuple(RUNTIMES) == NAMES


@pytest.mark.parametrize("name", ["onnxruntime-0t", "onnxruntime-2t-4t", "onnxruntime-int4", "eager-int8", "openvino-"])
def test_a_part_that_a_runtime_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="threads such as -1t"):
        make_runtime(name, CPU)


def test_a_misspelt_runtime_with_parts_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean openvino"):
        make_runtime("openvin-4t", CPU)


def test_the_threads_of_a_name_are_those_that_work() -> None:
    seen = []

    class Looking(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return images

    before = torch.get_num_threads()
    make_runtime(f"eager-{before + 2}t", CPU).prepare(Looking(), (3, 4, 4), 1)()
    assert set(seen) == {before + 2}
    assert torch.get_num_threads() == before


def test_a_name_says_all_that_was_asked_for() -> None:
    assert make_runtime("eager-1t-bf16", CPU).name == "eager-1t-bf16"


def test_a_misspelt_runtime_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean onnxruntime"):
        make_runtime("onnxruntim", CPU)


def test_only_latency_has_a_runtime() -> None:
    with pytest.raises(ConfigError, match="leave '@eager' out"):
        make_metric("macs@eager", batch=1, runtime="eager", device=CPU)


def test_a_metric_must_have_the_key_it_is_named_by() -> None:
    with pytest.raises(ConfigError, match="key is 'energy_mJ'"):
        make_metric("energy_mJ", batch=1, runtime="eager", device=CPU, own={"energy_mJ": "triaxis.metrics.counted:MacsMetric"})
