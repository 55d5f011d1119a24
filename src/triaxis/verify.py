"""Verify: open the test split once for a delivered model, and set what was measured beside what was predicted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from triaxis.maths import interval
from triaxis.profiling.latency import device_name, measure_latency
from triaxis.profiling.macs import count_macs, count_params
from triaxis.progress import Advance
from triaxis.prune import Pruned
from triaxis.training.data import Images
from triaxis.training.evaluate import Evaluation, evaluate
from triaxis.values import Measured, Solution, Verification, digest
from triaxis.workbench import Workbench, state_digest


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
    found = evaluate(model, test, side_px, bench.device)
    shape = (bench.source.in_channels, side_px, side_px)
    profile = bench.config.profile
    latency = {
        str(batch): measure_latency(model, shape, batch=batch, device=bench.device, backend=profile.backend, max_runs=profile.repeats)
        for batch in profile.batches
    }
    return Measured(
        val_accuracy=val_accuracy,
        test_accuracy=bench.accuracy(found),
        test_interval=_interval(bench, found, len(test)),
        macs=count_macs(model, shape),
        params=count_params(model),
        latency_ms={batch: time.median_ms for batch, time in latency.items()},
        latency_spread_ms={batch: time.spread_ms for batch, time in latency.items()},
        file_bytes=file.stat().st_size,
    )


def _interval(bench: Workbench, found: Evaluation, num_test: int) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy that the configuration asks for."""
    if bench.config.fit.target == "balanced_accuracy":
        return interval.balanced(found.num_right, found.num_images)
    return interval.wilson(found.accuracy, num_test)
