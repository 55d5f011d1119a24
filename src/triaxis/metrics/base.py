"""What a metric is: a kind of cost that a budget may limit.

The contract, which `triaxis.testing.MetricContract` checks:

* `key` names the metric and its unit, as ``triaxis.values.metric`` says: ``macs``, ``latency_ms``, ``energy_mJ``.
* `prepare` does what is done once for a network (compile, export, upload) and returns a call. Each call gives one reading, a
  finite number above 0 in the key's unit. Neither changes the network.
* `is_counted` says that every reading of one network is the same number. Then one is enough. Anything else drifts with the
  machine, and is always read beside the base model, in turns: ``triaxis.metrics.gauge``.
* A metric whose device or package is missing says so in `prepare`, as a `TriaxisError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import nn

Shape = tuple[int, ...]
"""(C, S, S) of one input image."""

Reading = Callable[[], float]
"""Takes one reading of a cost."""


class Metric(Protocol):
    """One kind of cost of a network."""

    key: str
    is_counted: bool

    def prepare(self, model: nn.Module, input_shape: Shape) -> Reading:
        """Return the call that takes one reading of `model` on images of (C, S, S)."""
        ...
