"""Measure a compressed model beside its base model on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triaxis.deliver.load import is_configured, load
from triaxis.deliver.plan_file import read_description
from triaxis.errors import ConfigError, MissingDependencyError
from triaxis.metrics.gauge import Gauge
from triaxis.metrics.latency import LatencyMetric
from triaxis.metrics.memory import measure_memory
from triaxis.metrics.runtimes import RUNTIMES, Runtime, make_runtime
from triaxis.models.zoos import ModelSource, build
from triaxis.process.usual_torch import usual_torch
from triaxis.store.checkpoints import load_into
from triaxis.store.directory import RunDirectory
from triaxis.surgery.trace.inputs import called_with


@usual_torch()
def bench_run(run_dir: Path, *, batches: Sequence[int] = (1, 8, 64), runtimes: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure base and compressed model in turns: latency, images per second and memory, a row per runtime and batch.

    Args:
        run_dir: A finished run.
        batches: Images per call.
        runtimes: Such as ``eager`` or ``onnxruntime``; None takes all of the box that are installed.

    Raises:
        ConfigError: A runtime is unknown, or the run's base model was handed over in code.
        MissingDependencyError: A runtime that was asked for is not installed.
    """
    directory = RunDirectory(run_dir)
    description = read_description(directory.compressed)
    source = ModelSource.from_json(description["source"])
    if not source.name:
        raise ConfigError(f"The base model of {run_dir} was handed over in code: measure both with triaxis.metrics.gauge instead.")
    commands = directory.config().profile.commands
    chosen = [make_runtime(name, CPU, setting="--runtime", commands=commands) for name in runtimes] if runtimes else _installed_runtimes()
    compressed = load(directory.compressed, allow_code=is_configured(run_dir, source))
    base = called_with(build(source.name, source.args, source.num_classes), source.example_input)
    load_into(base, directory.checkpoint("base"))
    shapes = [(source.in_channels, side, side) for side in (source.side_px, description["input"][1])]
    pair = ((base.eval(), shapes[0]), (compressed, shapes[1]))
    return [_row(pair, runtime, batch) for runtime in chosen for batch in batches]


CPU = torch.device("cpu")


def _installed_runtimes() -> list[Runtime]:
    found = []
    for name in RUNTIMES:
        with contextlib.suppress(MissingDependencyError):
            found.append(make_runtime(name, CPU))
    return found


def _row(pair: Sequence[tuple[nn.Module, tuple[int, int, int]]], runtime: Runtime, batch: int) -> dict[str, Any]:
    (base, base_shape), (cut, cut_shape) = pair
    found = Gauge(LatencyMetric(runtime, batch), base, base_shape).measure(cut, cut_shape, seconds=2.0)
    row: dict[str, Any] = {"runtime": runtime.name, "batch": batch}
    for name, ms, spread_ms, (model, shape) in (
        ("base", found.base, found.base_spread, pair[0]),
        ("compressed", found.cost, found.cost_spread, pair[1]),
    ):
        row |= {
            f"{name}_ms": ms,
            f"{name}_spread_ms": spread_ms,
            f"{name}_images_per_s": 1000 * batch / ms,
            f"{name}_memory_mb": measure_memory(model, shape, batch) / 1e6,
        }
    return row | {"speedup": 1 / found.ratio}
