"""Metrics that are counted: the same number at each reading, on any machine."""

from __future__ import annotations

from torch import nn

from triaxis.metrics.base import Reading, Shape
from triaxis.metrics.macs import count_macs, count_params
from triaxis.metrics.memory import measure_memory


class MacsMetric:
    """Multiply-accumulates of one image."""

    key = "macs"
    is_counted = True

    def prepare(self, model: nn.Module, input_shape: Shape) -> Reading:
        """See `Metric`."""
        return lambda: float(count_macs(model, input_shape))  # type: ignore[arg-type]


class ParamsMetric:
    """Parameters."""

    key = "params"
    is_counted = True

    def prepare(self, model: nn.Module, input_shape: Shape) -> Reading:
        """See `Metric`."""
        return lambda: float(count_params(model))


class MemoryMetric:
    """Bytes of weights and peak activations of one batch."""

    key = "memory_bytes"
    is_counted = True

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def prepare(self, model: nn.Module, input_shape: Shape) -> Reading:
        """See `Metric`."""
        return lambda: float(measure_memory(model, input_shape, self.batch))  # type: ignore[arg-type]
