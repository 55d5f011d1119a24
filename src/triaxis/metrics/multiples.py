"""The multiple of channels that a runtime likes: how much longer a channel takes where counts are rounded less coarsely.

Notation:
    c      channels of a small stack of convolutions; C of the reference stack, which every candidate divides
    t(c)   its latency over that of the reference, read in turns
    s(c)   t(c) / (c / C)^2, the time for each multiply-accumulate over the reference's
    e(m)   the geometric mean of s over counts just below and above C whose largest power of two is m

Counts on both sides of C take out what the size itself does to the time.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import nn

from triaxis.errors import RefusedModelError
from triaxis.metrics.gauge import Gauge
from triaxis.metrics.latency import LatencyMetric
from triaxis.metrics.runtimes.base import Runtime

log = logging.getLogger(__name__)

REFERENCE = 128
COUNTS = {8: (120, 136), 16: (112, 144), 32: (96, 160)}
"""For each multiple the counts nearest to the reference that no larger power of two divides."""

ENOUGH = 0.1
"""The smallest multiple is taken that is at most this share slower, for each multiply-accumulate, than the best one."""

SECONDS = 0.4
LAYERS = 3
SIDE_PX = 14


def best_multiple(runtime: Runtime, *, batch: int = 1) -> int:
    """Return 8, 16 or 32: what channel counts should be rounded to for a runtime.

    Args:
        runtime: What will run the model.
        batch: Images of one call.

    Raises:
        DeviceError: A device does not answer.
    """
    gauge = Gauge(LatencyMetric(runtime, batch), _stack(REFERENCE), (REFERENCE, SIDE_PX, SIDE_PX))
    slowness: dict[int, float] = {}
    for multiple, counts in COUNTS.items():
        try:
            shares = [
                gauge.measure(_stack(count), (count, SIDE_PX, SIDE_PX), seconds=SECONDS).ratio / (count / REFERENCE) ** 2
                for count in counts
            ]
        except RefusedModelError as error:
            log.warning("%s This multiple of channels is left out.", error)
            continue
        slowness[multiple] = math.prod(shares) ** (1 / len(shares))
    if not slowness:
        return min(COUNTS)
    chosen = min(m for m, s in slowness.items() if s <= (1 + ENOUGH) * min(slowness.values()))
    shown = ", ".join(f"{m}: {s:.2f}" for m, s in slowness.items())
    log.info(
        "channels are rounded to multiples of %d on %s; time for each MAC over that of %d channels: %s",
        chosen,
        runtime.name,
        REFERENCE,
        shown,
    )
    return chosen


def _stack(channels: int) -> nn.Module:
    """Return a few convolutions with batch norms, as networks have them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
            for _ in range(LAYERS)
        ]
        return nn.Sequential(*layers).eval()
