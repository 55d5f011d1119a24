"""Latency, measured: the milliseconds of one batch on the device and the runtime that will run the model."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from triaxis.errors import RefusedModelError, TriaxisError
from triaxis.metrics.base import Reading, Shape
from triaxis.metrics.runtimes import make_runtime
from triaxis.metrics.runtimes.base import Runtime
from triaxis.surgery.cut.sides import first_line
from triaxis.values import Value


class LatencyMetric:
    """Milliseconds of one batch of images."""

    is_counted = False

    def __init__(self, runtime: Runtime, batch: int, key: str = "latency_ms") -> None:
        self.runtime, self.batch, self.key = runtime, batch, key
        self.is_slow: bool = getattr(runtime, "is_slow", False)
        self.identity = f"{getattr(runtime, 'identity', runtime.name)} batch {batch}"

    def prepare(self, model: nn.Module, input_shape: Shape) -> Reading:
        """See `Metric`.

        Raises:
            RefusedModelError: The runtime cannot run this network; names the runtime's own reason.
        """
        try:
            return self.runtime.prepare(model, input_shape, self.batch)
        except TriaxisError:
            raise
        except Exception as error:
            raise RefusedModelError(
                f"The runtime {self.runtime.name} must run every cut, but it refuses one at {input_shape[-1]} px: {first_line(error)}."
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Value):
    """`median_ms` per batch; `spread_ms` is half the distance between the quartiles; `runs` readings."""

    median_ms: float
    spread_ms: float
    runs: int
    batch: int


def read_for(reading: Reading, *, seconds: float = 0.5, min_runs: int = 7, max_runs: int = 200) -> list[float]:
    """Return repeated readings, for about `seconds` in all.

    Args:
        reading: Takes one.
        seconds: Time to spend.
        min_runs: Readings at least, however slow.
        max_runs: Readings at most.
    """
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < min_runs or (time.perf_counter() < end and len(found) < max_runs):
        found.append(reading())
    return found


def half_spread(readings: list[float]) -> float:
    """Return half the distance between the quartiles."""
    low, _, high = statistics.quantiles(readings, n=4)
    return (high - low) / 2


def measure_latency(
    model: nn.Module,
    input_shape: Shape,
    *,
    batch: int = 1,
    device: torch.device | str = "cpu",
    runtime: str = "eager",
    seconds: float = 0.5,
    max_runs: int = 200,
) -> Latency:
    """Measure the latency of one network alone. To compare two, measure them in turns: ``triaxis.metrics.gauge``.

    Args:
        model: The network; it is copied, not changed.
        input_shape: (C, S, S).
        batch: Images per call.
        device: Where to run.
        runtime: What runs it.
        seconds: Time to spend.
        max_runs: Timed calls at most.
    """
    reading = make_runtime(runtime, torch.device(device)).prepare(model, input_shape, batch)
    times = read_for(reading, seconds=seconds, max_runs=max_runs)
    return Latency(median_ms=statistics.median(times), spread_ms=half_spread(times), runs=len(times), batch=batch)


def device_name(device: torch.device) -> str:
    """Return the processor's or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
