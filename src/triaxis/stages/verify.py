"""Verify: open the test split once for a delivered model, and set what was measured beside what was predicted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from triaxis.data.images import Images
from triaxis.maths.interval import wilson
from triaxis.metrics.latency import device_name, measure_latency
from triaxis.metrics.macs import count_macs, count_params
from triaxis.progress import Advance
from triaxis.stages.context import Workbench, state_digest
from triaxis.stages.prune import Pruned
from triaxis.training.evaluate import evaluate
from triaxis.values import Measured, Solution, Verification, digest


def verify(bench: Workbench, pruned: Pruned, solution: Solution, files: tuple[Path, Path]) -> Verification:
    """Measure the base and the compressed model on the test split and on this machine, or recall it for a model verified before.

    Args:
        bench: The data, the base model, the device.
        pruned: The finished network.
        solution: What was predicted for it.
        files: Weight files of the base and of the compressed model, for their lengths.
    """
    weights = state_digest(pruned.model.state_dict())
    key = f"verification:{digest({'weights': weights, 'plan': pruned.plan.to_json(), 'data': bench.data_digest})}"
    if bench.store.record(key) is None:
        with bench.timed("verify") as advance:
            bench.store.put_record(key, _measure_both(bench, pruned, solution, files, advance).to_json())
    # More trials may have changed the prediction since.
    predicted = solution.predicted_accuracy
    found = Verification.from_json(bench.store.record(key))
    found = dataclasses.replace(found, predicted_accuracy=predicted, prediction_error=pruned.val_accuracy - predicted)
    bench.store.put_record("verification", found.to_json())
    return found


def _measure_both(bench: Workbench, pruned: Pruned, solution: Solution, files: tuple[Path, Path], advance: Advance) -> Verification:
    advance(0.0, "test accuracy")
    test, base = bench.splits.test.open(), bench.store.record("base")
    base_found = _measured(bench, bench.surgeon.base, bench.side_px, base["val_accuracy"], files[0], test)
    advance(0.5, "test accuracy and latency")
    return Verification(
        base=base_found,
        compressed=_measured(bench, pruned.model, pruned.plan.side_px, pruned.val_accuracy, files[1], test),
        predicted_accuracy=solution.predicted_accuracy,
        prediction_error=pruned.val_accuracy - solution.predicted_accuracy,
        num_test=len(test),
        device=device_name(bench.device),
        threads=torch.get_num_threads(),
    )


def _measured(bench: Workbench, model: nn.Module, side_px: int, val_accuracy: float, file: Path, test: Images) -> Measured:
    accuracy = bench.accuracy(evaluate(model, test, side_px, bench.device))
    shape = (bench.source.in_channels, side_px, side_px)
    profile = bench.config.profile
    latency = {
        str(batch): measure_latency(model, shape, batch=batch, device=bench.device, backend=profile.backend, max_runs=profile.repeats)
        for batch in profile.batches
    }
    return Measured(
        val_accuracy=val_accuracy,
        test_accuracy=accuracy,
        test_interval=wilson(accuracy, len(test)),
        macs=count_macs(model, shape),
        params=count_params(model),
        latency_ms={batch: found.median_ms for batch, found in latency.items()},
        latency_spread_ms={batch: found.spread_ms for batch, found in latency.items()},
        file_bytes=file.stat().st_size,
    )
