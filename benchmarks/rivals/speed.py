"""Measured speed beside the base model's, both timed in turns in one sitting, so that a machine's drift cancels."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from triaxis.errors import MissingDependencyError
from triaxis.metrics.base import Reading
from triaxis.metrics.gauge import in_turns
from triaxis.metrics.runtimes import make_runtime

Shape = tuple[int, int, int]


def available(runtimes: Sequence[str]) -> tuple[str, ...]:
    """Return the runtimes that this machine has."""
    found = []
    for name in runtimes:
        with contextlib.suppress(MissingDependencyError):
            found.append(make_runtime(name, torch.device("cpu")).name)
    return tuple(found)


def readings(model: nn.Module, shape: Shape, runtime: str, batches: Sequence[int], device: torch.device) -> dict[int, Reading]:
    """Return for each batch what times one pass of `model`, in fp32.

    Args:
        model: The network; it is copied.
        shape: (C, S, S).
        runtime: ``eager``, ``compile`` or ``onnxruntime`` (on the CPU).
        batches: Images per call.
        device: Where PyTorch runs.
    """
    made = make_runtime(runtime, device)
    return {batch: made.prepare(model, shape, batch) for batch in batches}


def relative_latency(base: Reading, arm: Reading, *, seconds: float = 1.0) -> float:
    """Return the arm's latency over the base model's, timed in turns."""
    return in_turns(base, arm, seconds=seconds).ratio


def measure_speed(base: Mapping[int, Reading], arm: Mapping[int, Reading], *, seconds: float) -> dict[str, dict[str, float]]:
    """Return, for each batch, both medians in milliseconds, the arm's quartile spread, its images per second and the speed-up."""
    found = {}
    for batch, reading in arm.items():
        both = in_turns(base[batch], reading, seconds=seconds)
        found[str(batch)] = {
            "latency_ms": both.cost,
            "spread_ms": both.cost_spread,
            "base_latency_ms": both.base,
            "images_per_second": 1000 * batch / both.cost,
            "speedup": 1 / both.ratio,
        }
    return found


def speed_fields(speed: Mapping[str, Mapping[str, Mapping[str, float]]], macs_fraction: float) -> dict[str, Any]:
    """Return the record's short names for the speed-ups, and speed-up over MACs reduction (1 = every saved MAC saved time)."""
    fields: dict[str, Any] = {}
    for runtime, batches in speed.items():
        prefix = "" if runtime == "eager" else f"{runtime}_"
        for batch, found in batches.items():
            fields[f"{prefix}speedup_batch{batch}"] = found["speedup"]
            fields[f"{prefix}speedup_per_macs_batch{batch}"] = found["speedup"] * macs_fraction
    return fields
