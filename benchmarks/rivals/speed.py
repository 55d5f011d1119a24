"""Measured speed beside the base model's, both timed in turns in one sitting, so that a machine's drift cancels."""

from __future__ import annotations

import copy
import functools
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triaxis.errors import MissingDependencyError
from triaxis.metrics.latency import prepare, time_calls
from triaxis.metrics.onnx import require_onnx, run_onnx, write_onnx

Call = Callable[[], object]
Shape = tuple[int, int, int]
ROUNDS = 8


Rounds = list[tuple[list[float], list[float]]]
"""Milliseconds of the base model's calls and of the arm's, round by round."""


def time_in_turns(base: Call, arm: Call, *, seconds: float, rounds: int = ROUNDS) -> Rounds:
    """Return the times of calls of both, timed base, arm, base, arm, ... for about `seconds` in all."""
    share = seconds / rounds / 2
    pairs = [[time_calls(call, seconds=share, warmup=1, min_runs=2) for call in (base, arm)] for _ in range(rounds)]
    return [(base_ms, arm_ms) for base_ms, arm_ms in pairs]


def relative(rounds: Rounds) -> float:
    """Return the arm's latency over the base model's: the median over the rounds, each of which saw the same machine."""
    return statistics.median(statistics.median(arm) / statistics.median(base) for base, arm in rounds)


def relative_latency(base: Call, arm: Call, *, seconds: float = 1.0) -> float:
    """Return the arm's latency over the base model's, timed in turns."""
    return relative(time_in_turns(base, arm, seconds=seconds))


def available(backends: Sequence[str]) -> tuple[str, ...]:
    """Return the backends that this machine has."""
    try:
        require_onnx()
    except MissingDependencyError:
        return tuple(name for name in backends if name != "onnxruntime")
    return tuple(backends)


def calls(model: nn.Module, shape: Shape, backend: str, batches: Sequence[int], device: torch.device) -> dict[int, Call]:
    """Return for each batch a call that runs `model` once, in fp32; in PyTorch with channels_last memory.

    Args:
        model: The network; it is copied.
        shape: (C, S, S).
        backend: ``eager``, ``compile`` or ``onnxruntime`` (on the CPU).
        batches: Images per call.
        device: Where PyTorch runs.
    """
    if backend != "onnxruntime":
        return {batch: prepare(model, shape, batch, device, backend) for batch in batches}
    plain = _on_cpu(model)
    with tempfile.TemporaryDirectory() as folder:
        run = run_onnx(write_onnx(Path(folder) / "model.onnx", plain, shape))
    images = {batch: torch.randn(batch, *shape) for batch in batches}
    return {batch: functools.partial(run, x) for batch, x in images.items()}


def _on_cpu(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).cpu().eval().to(memory_format=torch.contiguous_format)


def measure_speed(base: Mapping[int, Call], arm: Mapping[int, Call], *, seconds: float) -> dict[str, dict[str, float]]:
    """Return, for each batch, both medians in milliseconds, the arm's quartile spread, its images per second and the speed-up."""
    found = {}
    for batch, call in arm.items():
        rounds = time_in_turns(base[batch], call, seconds=seconds)
        base_ms, arm_ms = ([ms for part in rounds for ms in part[which]] for which in (0, 1))
        low, median, high = statistics.quantiles(arm_ms, n=4)
        found[str(batch)] = {
            "latency_ms": median,
            "spread_ms": (high - low) / 2,
            "base_latency_ms": statistics.median(base_ms),
            "images_per_second": 1000 * batch / median,
            "speedup": 1 / relative(rounds),
        }
    return found


def speed_fields(speed: Mapping[str, Mapping[str, Mapping[str, float]]], macs_fraction: float) -> dict[str, Any]:
    """Return the record's short names for the speed-ups, and speed-up over MACs reduction (1 = every saved MAC saved time)."""
    fields: dict[str, Any] = {}
    for backend, batches in speed.items():
        prefix = "" if backend == "eager" else f"{backend}_"
        for batch, found in batches.items():
            fields[f"{prefix}speedup_batch{batch}"] = found["speedup"]
            fields[f"{prefix}speedup_per_macs_batch{batch}"] = found["speedup"] * macs_fraction
    return fields
