"""Verify: open the test split once for a delivered model, and set what was measured beside what was predicted."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from triaxis.metrics.gauge import Gauge
from triaxis.metrics.latency import Latency, LatencyMetric, device_name
from triaxis.metrics.macs import count_macs, count_params
from triaxis.metrics.runtimes import make_runtime
from triaxis.progress import Advance
from triaxis.stages.base import state_digest
from triaxis.stages.choose import cost_of, is_clear
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.costs import gauge_of
from triaxis.stages.prune import Pruned
from triaxis.tasks import Score
from triaxis.values import Budget, BudgetCheck, CostTable, Measured, Solution, Verification, digest
from triaxis.values.score import score_of

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""Time for the first rounds in which a measured budget is checked."""


def verify(
    run: Run, data: Data, base: Base, trainer: Trainer, pruned: Pruned, solution: Solution, files: tuple[Path, Path]
) -> Verification:
    """Measure the base and the compressed model on the test split and on this machine, or recall it for a model verified before.

    Args:
        run: The run's configuration, store and directory.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        pruned: The finished network.
        solution: What was predicted for it.
        files: Weight files of the base and of the compressed model, for their lengths.
    """
    weights = state_digest(pruned.model.state_dict())
    key = f"verification:{digest({'weights': weights, 'plan': pruned.plan.to_json(), 'data': data.digest})}"
    if run.store.record(key) is None:
        with run.timed("verify") as advance:
            run.store.put_record(key, _measure_both(run, data, base, trainer, pruned, solution, files, advance).to_json())
    # More trials may have changed the prediction since, and the same cut may answer other budgets.
    predicted = solution.predicted_accuracy
    found = Verification.from_json(run.store.record(key))
    found = dataclasses.replace(found, predicted_accuracy=predicted, prediction_error=pruned.val_accuracy - predicted)
    found = dataclasses.replace(found, checks=_checks(run, base, trainer, pruned, solution, weights))
    run.store.put_record("verification", found.to_json())
    for check in found.checks:
        if not check.is_met:
            log.warning("%s", check.missed_sentence())
    return found


def _checks(run: Run, base: Base, trainer: Trainer, pruned: Pruned, solution: Solution, weights: str) -> tuple[BudgetCheck, ...]:
    """Return the solution's budgets beside the finished model's costs, each measured once for a model and its budgets."""
    key = f"checks:{digest({'weights': weights, 'budgets': [budget.to_json() for budget in solution.budgets]})}"
    if run.store.record(key) is None:
        with run.timed("verify") as advance:
            advance(0.0, "budgets")
            table = CostTable.from_json(run.store.record("cost_table"))
            found = [_check(run, base, trainer, pruned, budget, table.base_cost(budget.metric)) for budget in solution.budgets]
        run.store.put_record(key, [check.to_json() for check in found])
    return tuple(BudgetCheck.from_json(plain) for plain in run.store.record(key))


def _check(run: Run, base: Base, trainer: Trainer, pruned: Pruned, budget: Budget, base_cost: float) -> BudgetCheck:
    gauge, side = gauge_of(run, base, trainer, budget.metric), pruned.plan.side_px
    share = budget.limit / base_cost
    with trainer.measuring():
        shape, clear = base.shape_at(side), functools.partial(is_clear, share)
        found = gauge.measure(pruned.model, shape, seconds=CHECK_SECONDS, is_clear=clear, anew=True)
    return BudgetCheck(
        budget=budget, cost=cost_of(gauge, found, base_cost), share=found.ratio, low=found.low, high=found.high, limit_share=share
    )


def _measure_both(
    run: Run, data: Data, base: Base, trainer: Trainer, pruned: Pruned, solution: Solution, files: tuple[Path, Path], advance: Advance
) -> Verification:
    advance(0.0, f"test {score_of(run.config.task)}")
    test, before = data.splits.test.open(), run.store.record("base")
    models = ((base.surgeon.base, base.side_px), (pruned.model, pruned.plan.side_px))
    tested = [trainer.evaluate(model, test, side) for model, side in models]
    advance(0.5, "latency")
    with trainer.measuring():
        latencies = _latencies(run, base, trainer, pruned)
    found = [
        _measured(base, *models[which], tested[which], val, files[which], latencies[which])
        for which, val in enumerate(((before["val_accuracy"], before.get("val_interval")), (pruned.val_accuracy, pruned.val_interval)))
    ]
    return Verification(
        base=found[0],
        compressed=found[1],
        predicted_accuracy=solution.predicted_accuracy,
        prediction_error=pruned.val_accuracy - solution.predicted_accuracy,
        num_test=len(test),
        device=device_name(trainer.device),
        threads=trainer.machine.most,
    )


def _latencies(run: Run, base: Base, trainer: Trainer, pruned: Pruned) -> tuple[dict[str, Latency], dict[str, Latency]]:
    """Return the latencies of the base and of the compressed model by batch, timed in turns."""
    profile, side = run.config.profile, pruned.plan.side_px
    runtime = make_runtime(profile.runtime, trainer.device, commands=profile.commands)
    before, after, network = {}, {}, (base.surgeon.base, base.input_shape)
    for batch in profile.batches:
        is_profiled = batch == profile.latency_batch
        gauge = gauge_of(run, base, trainer, "latency_ms") if is_profiled else Gauge(LatencyMetric(runtime, batch), *network)
        found = gauge.measure(pruned.model, base.shape_at(side), max_readings=profile.repeats)
        before[str(batch)] = Latency(median_ms=found.base, spread_ms=found.base_spread, runs=found.rounds, batch=batch)
        after[str(batch)] = Latency(median_ms=found.cost, spread_ms=found.cost_spread, runs=found.rounds, batch=batch)
    return before, after


def _measured(
    base: Base,
    model: nn.Module,
    side_px: int,
    tested: Score,
    val: tuple[float, Sequence[float] | None],
    file: Path,
    latency: dict[str, Latency],
) -> Measured:
    return Measured(
        val_accuracy=val[0],
        val_interval=(val[1][0], val[1][1]) if val[1] else None,
        test_accuracy=tested.value,
        test_interval=tested.interval,
        macs=count_macs(model, base.shape_at(side_px)),
        params=count_params(model),
        latency_ms={batch: found.median_ms for batch, found in latency.items()},
        latency_spread_ms={batch: found.spread_ms for batch, found in latency.items()},
        file_bytes=file.stat().st_size,
    )
