"""Verify: open the test split once, and set what was measured beside what was predicted."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from triaxis.maths.interval import wilson
from triaxis.profiling.latency import device_name, measure_latency
from triaxis.profiling.macs import count_macs, count_params
from triaxis.prune import Pruned
from triaxis.training.data import Images
from triaxis.training.evaluate import evaluate
from triaxis.values import Measured, Solution, Verification
from triaxis.workbench import Workbench


def verify(bench: Workbench, pruned: Pruned, solution: Solution, files: tuple[Path, Path]) -> Verification:
    """Measure the base and the compressed model on the test split and on this machine.

    Args:
        bench: The data, the base model, the device.
        pruned: The finished network.
        solution: What was predicted for it.
        files: Weight files of the base and of the compressed model, for their lengths.
    """
    base = bench.store.record("base") or {}
    with bench.timed("verify") as advance:
        advance(0.0, "test accuracy")
        test = bench.splits.test.open()
        base_found = _measured(bench, bench.surgeon.base, bench.side_px, base["val_accuracy"], files[0], test)
        advance(0.5, "test accuracy and latency")
        found = _measured(bench, pruned.model, pruned.plan.side_px, pruned.val_accuracy, files[1], test)
        verification = Verification(
            base=base_found,
            compressed=found,
            predicted_accuracy=solution.predicted_accuracy,
            prediction_error=pruned.val_accuracy - solution.predicted_accuracy,
            num_test=len(test),
            device=device_name(bench.device),
            threads=torch.get_num_threads(),
        )
        bench.store.put_record("verification", verification.to_json())
    return verification


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
