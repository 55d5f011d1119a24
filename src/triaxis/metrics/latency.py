"""Latency, measured: warm-up, then the median and spread of repeated calls on the device that will run the model."""

from __future__ import annotations

import copy
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from triaxis.values import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Value):
    """`median_ms` per batch; `spread_ms` is half the distance between the quartiles; `runs` timed calls."""

    median_ms: float
    spread_ms: float
    runs: int
    batch: int


def time_calls(call: Callable[[], object], *, seconds: float = 0.5, warmup: int = 3, min_runs: int = 7, max_runs: int = 200) -> list[float]:
    """Return the milliseconds of repeated calls, for about `seconds` in all.

    Args:
        call: Does the work and waits until it is done.
        seconds: Time to spend on timed calls.
        warmup: Calls before the first timed one.
        min_runs: Timed calls at least, however slow.
        max_runs: Timed calls at most.
    """
    for _ in range(warmup):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < min_runs or (time.perf_counter() < end and len(times) < max_runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def summarise(times: list[float], batch: int) -> Latency:
    """Return median and spread of timed calls in milliseconds."""
    low, median, high = statistics.quantiles(times, n=4)
    return Latency(median_ms=median, spread_ms=(high - low) / 2, runs=len(times), batch=batch)


def prepare(
    model: nn.Module, input_shape: tuple[int, int, int], batch: int, device: torch.device, backend: str = "eager"
) -> Callable[[], object]:
    """Return a call that runs `model` once on a (batch, C, S, S) input, in fp32 and channels_last, and waits for it.

    Args:
        model: The network; it is copied, not changed.
        input_shape: (C, S, S).
        batch: Images per call.
        device: Where to run.
        backend: ``eager``, ``compile`` (torch.compile) or ``onnxruntime`` (CPU).
    """
    images = torch.randn(batch, *input_shape, device=device).to(memory_format=torch.channels_last)
    runner = copy.deepcopy(model).eval().to(device=device).to(memory_format=torch.channels_last)
    if backend == "onnxruntime":
        from triaxis.metrics.onnx import onnx_call

        return onnx_call(runner.cpu(), images.cpu())
    network = torch.compile(runner) if backend == "compile" else runner

    def call() -> None:
        with torch.inference_mode():
            network(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def measure_latency(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    batch: int = 1,
    device: torch.device | str = "cpu",
    backend: str = "eager",
    seconds: float = 0.5,
    max_runs: int = 200,
) -> Latency:
    """Measure the latency of one call at a batch; see `prepare` for the arguments."""
    call = prepare(model, input_shape, batch, torch.device(device), backend)
    return summarise(time_calls(call, seconds=seconds, max_runs=max_runs), batch)


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
