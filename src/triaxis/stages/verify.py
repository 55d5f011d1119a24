"""Verify: open the test split once for a delivered model, and set what was measured beside what was predicted."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path

from torch import nn

from triaxis.maths import interval
from triaxis.metrics.gauge import Gauge
from triaxis.metrics.latency import Latency, LatencyMetric, device_name
from triaxis.metrics.macs import count_macs, count_params
from triaxis.metrics.runtimes import make_runtime
from triaxis.progress import Advance
from triaxis.stages.base import state_digest
from triaxis.stages.choose import cost_of, is_clear
from triaxis.stages.context import Workbench
from triaxis.stages.costs import gauge_of
from triaxis.stages.prune import Pruned
from triaxis.training.evaluate import Evaluation, evaluate
from triaxis.values import Budget, BudgetCheck, CostTable, Measured, Solution, Verification, digest

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""Time for the first rounds in which a measured budget is checked."""


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
    # More trials may have changed the prediction since, and the same cut may answer other budgets.
    predicted = solution.predicted_accuracy
    found = Verification.from_json(bench.store.record(key))
    found = dataclasses.replace(found, predicted_accuracy=predicted, prediction_error=pruned.val_accuracy - predicted)
    found = dataclasses.replace(found, checks=_checks(bench, pruned, solution, weights))
    bench.store.put_record("verification", found.to_json())
    for check in found.checks:
        if not check.is_met:
            log.warning("%s", check.missed_sentence())
    return found


def _checks(bench: Workbench, pruned: Pruned, solution: Solution, weights: str) -> tuple[BudgetCheck, ...]:
    """Return the solution's budgets beside the finished model's costs, each measured once for a model and its budgets."""
    key = f"checks:{digest({'weights': weights, 'budgets': [budget.to_json() for budget in solution.budgets]})}"
    if bench.store.record(key) is None:
        with bench.timed("verify") as advance:
            advance(0.0, "budgets")
            table = CostTable.from_json(bench.store.record("cost_table"))
            found = [_check(bench, pruned, budget, table.base_cost(budget.metric)) for budget in solution.budgets]
        bench.store.put_record(key, [check.to_json() for check in found])
    return tuple(BudgetCheck.from_json(plain) for plain in bench.store.record(key))


def _check(bench: Workbench, pruned: Pruned, budget: Budget, base: float) -> BudgetCheck:
    gauge, side = gauge_of(bench, budget.metric), pruned.plan.side_px
    share = budget.limit / base
    shape = (bench.source.in_channels, side, side)
    with bench.measuring():
        found = gauge.measure(pruned.model, shape, seconds=CHECK_SECONDS, is_clear=functools.partial(is_clear, share), anew=True)
    return BudgetCheck(
        budget=budget, cost=cost_of(gauge, found, base), share=found.ratio, low=found.low, high=found.high, limit_share=share
    )


def _measure_both(bench: Workbench, pruned: Pruned, solution: Solution, files: tuple[Path, Path], advance: Advance) -> Verification:
    advance(0.0, "test accuracy")
    test, base = bench.splits.test.open(), bench.store.record("base")
    models = ((bench.surgeon.base, bench.side_px), (pruned.model, pruned.plan.side_px))
    tested = [evaluate(model, test, side, bench.device) for model, side in models]
    advance(0.5, "latency")
    with bench.measuring():
        latencies = _latencies(bench, pruned)
    found = [
        _measured(bench, *models[which], tested[which], len(test), val, files[which], latencies[which])
        for which, val in enumerate((base["val_accuracy"], pruned.val_accuracy))
    ]
    return Verification(
        base=found[0],
        compressed=found[1],
        predicted_accuracy=solution.predicted_accuracy,
        prediction_error=pruned.val_accuracy - solution.predicted_accuracy,
        num_test=len(test),
        device=device_name(bench.device),
        threads=bench.machine.most,
    )


def _latencies(bench: Workbench, pruned: Pruned) -> tuple[dict[str, Latency], dict[str, Latency]]:
    """Return the latencies of the base and of the compressed model by batch, timed in turns."""
    profile, side = bench.config.profile, pruned.plan.side_px
    runtime = make_runtime(profile.runtime, bench.device, commands=profile.commands)
    base, compressed = {}, {}
    for batch in profile.batches:
        gauge = Gauge(LatencyMetric(runtime, batch), bench.surgeon.base, bench.input_shape)
        found = gauge.measure(pruned.model, (bench.source.in_channels, side, side), max_readings=profile.repeats)
        base[str(batch)] = Latency(median_ms=found.base, spread_ms=found.base_spread, runs=found.rounds, batch=batch)
        compressed[str(batch)] = Latency(median_ms=found.cost, spread_ms=found.cost_spread, runs=found.rounds, batch=batch)
    return base, compressed


def _measured(
    bench: Workbench,
    model: nn.Module,
    side_px: int,
    tested: Evaluation,
    num_test: int,
    val_accuracy: float,
    file: Path,
    latency: dict[str, Latency],
) -> Measured:
    return Measured(
        val_accuracy=val_accuracy,
        test_accuracy=bench.accuracy(tested),
        test_interval=_interval(bench, tested, num_test),
        macs=count_macs(model, (bench.source.in_channels, side_px, side_px)),
        params=count_params(model),
        latency_ms={batch: found.median_ms for batch, found in latency.items()},
        latency_spread_ms={batch: found.spread_ms for batch, found in latency.items()},
        file_bytes=file.stat().st_size,
    )


def _interval(bench: Workbench, tested: Evaluation, num_test: int) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy that the configuration asks for."""
    if bench.config.fit.target == "balanced_accuracy":
        return interval.balanced(tested.num_right, tested.num_images)
    return interval.wilson(tested.accuracy, num_test)
