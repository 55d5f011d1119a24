"""Metrics by key: those in the box, installed ones, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from triaxis.config.tree import DeviceConfig
from triaxis.errors import ConfigError
from triaxis.metrics.base import Metric
from triaxis.metrics.counted import MacsMetric, MemoryMetric, ParamsMetric
from triaxis.metrics.latency import LatencyMetric
from triaxis.metrics.runtimes import make_runtime
from triaxis.plugins import find_part


def make_metric(
    key: str,
    *,
    batch: int,
    runtime: str,
    device: torch.device,
    own: Mapping[str, str] | None = None,
    commands: Mapping[str, DeviceConfig] | None = None,
) -> Metric:
    """Return what counts or measures a metric.

    Args:
        key: Such as ``macs``, ``latency_ms`` or ``latency_ms@onnxruntime``.
        batch: Images per call, for latency and memory.
        runtime: What runs the model where the key names none.
        device: Where to run.
        own: The user's metrics: key to ``package.module:Name``.
        commands: What is run for each device that the configuration names.

    Raises:
        ConfigError: There is no such metric or runtime.
        MissingDependencyError: The runtime is not installed.
    """
    plain, at, named = key.partition("@")
    if plain == "latency_ms":
        setting = f"the runtime of {key}" if at else "profile.runtime"
        chosen = make_runtime(named or runtime, device, setting=setting, commands=commands)
        return LatencyMetric(chosen, batch, key)
    if at:
        raise ConfigError(f"Only latency is measured on a runtime, got {key!r}: leave '@{named}' out.")
    box = {"macs": MacsMetric, "params": ParamsMetric, "memory_bytes": lambda: MemoryMetric(batch)}
    setting = f"metrics.{plain}"
    metric: Metric = find_part("metric", (own or {}).get(plain, plain), box, setting=setting)()
    if metric.key != plain:
        raise ConfigError(f"{setting} must name a metric whose key is {plain!r}, got one with {metric.key!r}: use that key in the file.")
    return metric
