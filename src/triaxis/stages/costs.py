"""Costs: what every cut would cost, counted or measured, and the gauges that measure one cut beside the base model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from triaxis.metrics.base import Metric
from triaxis.metrics.gauge import Gauge
from triaxis.metrics.make import make_metric
from triaxis.metrics.multiples import best_multiple
from triaxis.metrics.runtimes import make_runtime
from triaxis.metrics.table import count_costs, with_measured
from triaxis.progress import Advance
from triaxis.stages.context import Base, Run, Trainer
from triaxis.surgery.criteria import Criterion, criterion_of
from triaxis.surgery.criteria.control import First
from triaxis.surgery.criteria.norms import L1
from triaxis.surgery.find.planning import Scope
from triaxis.values import CostTable

SECONDS_FOR_A_BUDGET = 0.3
"""Time for each sample of a metric that a budget limits, shared by the base model and the cut."""

SECONDS_FOR_NO_BUDGET = 0.08


def metric_of(run: Run, trainer: Trainer, key: str) -> Metric:
    """Return what counts or measures a metric under the run's settings."""
    config = run.config
    return make_metric(
        key,
        batch=config.profile.latency_batch,
        runtime=config.profile.runtime,
        device=trainer.device,
        own=config.metrics,
        commands=config.profile.commands,
    )


def gauge_of(run: Run, base: Base, trainer: Trainer, key: str) -> Gauge:
    """Return what measures cuts in a metric beside the run's base model, which one process prepares once for each metric."""
    if key not in base.gauges:
        base.gauges[key] = Gauge(metric_of(run, trainer, key), base.surgeon.base, base.input_shape, run.store)
    return base.gauges[key]


def round_to(run: Run, device: torch.device) -> int:
    """Return the multiple that channel counts are rounded to; ``auto`` is measured once for a run, on the runtime that its budgets name."""
    config, store = run.config, run.store
    if config.width.round_to != "auto":
        return config.width.round_to
    if store.record("round_to") is None:
        named = [budget.metric.partition("@")[2] for budget in config.budgets if budget.metric.startswith("latency_ms")]
        name = next((name for name in named if name), config.profile.runtime)
        runtime = make_runtime(name, device, commands=config.profile.commands)
        store.put_record("round_to", best_multiple(runtime, batch=config.profile.latency_batch))
    return int(store.record("round_to"))


def cost_table(run: Run, base: Base, trainer: Trainer, block_order: Sequence[str]) -> CostTable:
    """Return the cost of every cut: MACs and parameters counted, the metrics of the budgets measured on a sample of cuts."""
    with run.timed("cost") as advance:
        advance(0.0, "counting MACs and parameters of every cut")
        importance, scope = _ranking(run)
        table = count_costs(
            base.surgeon,
            block_order,
            min_depth=run.config.collect.min_depth,
            in_channels=base.source.in_channels,
            importance=importance,
            scope=scope,
            seed=run.config.seed,
        )
        advance(0.0, "MACs and parameters are counted")
        metrics = [budget.metric for budget in run.config.budgets]
        return _measured_too(run, base, trainer, table, block_order, metrics, SECONDS_FOR_A_BUDGET, advance)


def for_any_budget(run: Run, base: Base, trainer: Trainer, table: CostTable, block_order: Sequence[str]) -> CostTable:
    """Return the table with a quick measurement of the metrics that no budget of the run asked for, so that `solve` can answer them.

    Latency is left out where each of its samples would have to be compiled or exported first.
    """
    metrics = ["memory_bytes", "latency_ms"] if run.config.profile.runtime == "eager" else ["memory_bytes"]
    with run.timed("cost") as advance:
        return _measured_too(run, base, trainer, table, block_order, metrics, SECONDS_FOR_NO_BUDGET, advance)


def with_metrics(run: Run, base: Base, trainer: Trainer, table: CostTable, block_order: Sequence[str], metrics: Iterable[str]) -> CostTable:
    """Return the table with every one of `metrics`, measuring those that it lacks."""
    with run.timed("cost") as advance:
        return _measured_too(run, base, trainer, table, block_order, metrics, SECONDS_FOR_A_BUDGET, advance)


def _measured_too(
    run: Run,
    base: Base,
    trainer: Trainer,
    table: CostTable,
    block_order: Sequence[str],
    metrics: Iterable[str],
    seconds: float,
    advance: Advance,
) -> CostTable:
    importance, scope = _ranking(run)
    lacking = [key for key in dict.fromkeys(metrics) if key not in table.costs]
    for n, key in enumerate(lacking):

        def tell(share: float, note: str, n: int = n) -> None:
            advance((n + share) / len(lacking), note)

        with trainer.measuring():
            table = with_measured(
                table,
                base.surgeon,
                block_order,
                gauge_of(run, base, trainer, key),
                in_channels=base.source.in_channels,
                seconds=seconds,
                advance=tell,
                importance=importance,
                scope=scope,
                seed=run.config.seed,
            )
    return table


def _ranking(run: Run) -> tuple[Criterion, Scope]:
    """Return importance and scope by which the table's cuts choose channels, without looking at images."""
    width = run.config.width
    # One ranking of all channels decides how many each group keeps; gradients need images and come later.
    criterion = First() if width.scope == "uniform" else criterion_of(width.importance)
    return L1() if criterion.needs_gradients else criterion, width.scope
