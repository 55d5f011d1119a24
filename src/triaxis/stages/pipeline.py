"""The five stages in order: collect -> fit -> solve -> prune -> report. Read this file first.

Each stage reads what earlier ones stored and skips what is already there, so that a run that was stopped at any moment
goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from triaxis.config import Config
from triaxis.data.images import Splits
from triaxis.deliver.bundle import export
from triaxis.deliver.int8 import INT8_FILE, INT8_FORM
from triaxis.errors import ConfigError
from triaxis.maths.lattice import Lattice
from triaxis.maths.solve import feasible_rows
from triaxis.process.usual_torch import usual_torch
from triaxis.progress import Progress
from triaxis.stages.base import open_run
from triaxis.stages.choose import choose
from triaxis.stages.collect import collect, final_block_order, first_block_order
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.costs import cost_table, for_any_budget, with_metrics
from triaxis.stages.elastic import collect_elastic
from triaxis.stages.fit import fit_run, read_predictor
from triaxis.stages.listeners import watched
from triaxis.stages.prune import prune
from triaxis.stages.quantise import quantise
from triaxis.stages.refine import measure_more, measure_off_axis
from triaxis.stages.restore import restore_weights
from triaxis.stages.summary import summarise
from triaxis.stages.verify import verify
from triaxis.store.directory import RunDirectory
from triaxis.training.machine import num_threads
from triaxis.values import BudgetSpec, CostTable, Solution, Verification

MIN_OFF_AXIS = 4
"""Trials off the axes that tell two products of straight lines from one: three pairs of axes, and all three together."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run hands over."""

    model: nn.Module
    solution: Solution
    verification: Verification
    summary: dict[str, Any]
    directory: Path


@usual_torch()
def run(
    config: Config,
    out: str | Path,
    *,
    budgets: Sequence[BudgetSpec] | None = None,
    progress: Progress | None = None,
    model: nn.Module | None = None,
    splits: Splits | None = None,
) -> Outcome:
    """Do it all in the run directory `out`, going on where an earlier process stopped; `budgets` takes the place of the run's."""
    _require_off_axis(config)
    directory, specs = RunDirectory(out), budgets or config.budgets
    with num_threads(), directory.open(config) as store, watched(directory, config, progress) as heard:
        opened = open_run(config, directory, store, progress=heard, model=model, splits=splits)
        table, order = collect_stage(*opened, specs)
        fit_stage(opened.run)
        return prune_stage(*opened, table, order, specs)


def _require_off_axis(config: Config) -> None:
    """Say before anything is trained that a rank above 1 could not be fitted; the products differ only off the axes.

    Raises:
        ConfigError: The trials off the axes are too few.
    """
    if config.fit.rank > 1 and config.collect.method == "chains" and config.collect.off_axis < MIN_OFF_AXIS:
        raise ConfigError(
            f"fit.rank {config.fit.rank} needs {MIN_OFF_AXIS} trials off the axes or more, got collect.off_axis "
            f"{config.collect.off_axis}: raise it, or leave the rank at 1."
        )


def collect_stage(run: Run, data: Data, base: Base, trainer: Trainer, specs: Sequence[BudgetSpec]) -> tuple[CostTable, tuple[str, ...]]:
    """Count what every cut would cost, measure the trials, and count again in the order of blocks that they found.

    Raises:
        InfeasibleBudgetError: No cut can meet the budgets `specs`; said before anything is trained.
    """
    store = run.store
    if store.record("first_block_order") is None:
        store.put_record("first_block_order", list(first_block_order(run, data, base, trainer)))
    first = tuple(store.record("first_block_order"))
    if store.record("first_cost_table") is None:
        store.put_record("first_cost_table", cost_table(run, base, trainer, first).to_json())
    table = _with_budgets(run, base, trainer, "first_cost_table", first, specs)
    feasible_rows(Lattice(table), [spec.resolve(table.base_cost(spec.metric)) for spec in specs])
    is_elastic = run.config.collect.method == "elastic"
    trials = collect_elastic(run, data, base, trainer, table, [specs]) if is_elastic else collect(run, data, base, trainer, table)
    order = final_block_order(base, trials, first)
    if store.record("block_order") != list(order):
        final = table if order == first else cost_table(run, base, trainer, order)
        store.put_record("cost_table", for_any_budget(run, base, trainer, final, order).to_json())
        store.put_record("block_order", list(order))
    table = _with_budgets(run, base, trainer, "cost_table", order, specs)
    if run.config.collect.off_axis and not is_elastic:
        measure_off_axis(run, data, base, trainer, table, run.config.collect.off_axis)
    return table, order


def _with_budgets(run: Run, base: Base, trainer: Trainer, key: str, order: tuple[str, ...], specs: Sequence[BudgetSpec]) -> CostTable:
    """Return a stored table of costs, with the metrics of budgets that were asked for later measured now."""
    table = CostTable.from_json(run.store.record(key))
    lacking = [spec.metric for spec in specs if spec.metric not in table.costs]
    if lacking:
        table = with_metrics(run, base, trainer, table, order, lacking)
        run.store.put_record(key, table.to_json())
    return table


def fit_stage(run: Run) -> None:
    """Fit the accuracy predictor to the trials."""
    with run.timed("fit"):
        fit_run(run.store, run.config)


def prune_stage(
    run: Run, data: Data, base: Base, trainer: Trainer, table: CostTable, order: tuple[str, ...], specs: Sequence[BudgetSpec]
) -> Outcome:
    """Solve, choose, cut, fine-tune, export, verify, and write the summary."""
    store, directory = run.store, run.directory
    with run.timed("solve") as advance:
        predictor, _ = read_predictor(store)
        budgets = [spec.resolve(table.base_cost(spec.metric)) for spec in specs]
        for trial in store.trials():
            if trial.spec.axis == "depth":
                restore_weights(run, data, base, trainer, trial.trial_id)
        advance(0.0, "measuring the best cuts")
        choice = choose(run, data, base, trainer, predictor, table, budgets, order)
    pruned, solution = prune(run, data, base, trainer, choice), choice.solution
    store.put_record("solution", solution.to_json())
    with run.timed("export") as advance:
        advance(0.0, "writing and checking files")
        files = export(
            directory.compressed,
            pruned.model,
            pruned.plan,
            base.source,
            data.splits.train.preprocess,
            run.config.export.formats,
            data.splits.class_names,
            run.config.task,
        )
    verification = verify(run, data, base, trainer, pruned, solution, (directory.checkpoint("base"), files[0]))
    if INT8_FORM in run.config.export.formats or (directory.compressed / INT8_FILE).exists():
        with run.timed("verify") as advance:
            advance(0.0, "int8")
            quantise(store, directory.compressed, pruned.model, data.splits, task=trainer.task)
    elif store.record("int8") is not None:
        store.put_record("int8", None)  # it was another model's
    summary = summarise(store)
    directory.write_json("summary.json", summary)
    return Outcome(pruned.model, solution, verification, summary, directory.path)


@usual_torch()
def continue_run(
    path: str | Path,
    stage: str,
    *,
    budgets: Sequence[BudgetSpec] | None = None,
    num_more: int = 0,
    progress: Progress | None = None,
) -> Outcome | None:
    """Do one stage that needs the network, ``collect`` or ``prune``, on an existing run directory.

    With ``collect``, up to `num_more` trials are added to the design where they tell most for the run's budgets.

    Raises:
        ConfigError: More trials are asked for, but the run measures cuts of shared weights.
    """
    directory = RunDirectory(path)
    config = directory.config()
    if num_more and config.collect.method == "elastic":
        raise ConfigError(
            "More trials can be added where collect.method is chains, but this run's is elastic: set collect.num_cuts in a new run."
        )
    specs = budgets or config.budgets
    with num_threads(), directory.open(config) as store, watched(directory, config, progress) as heard:
        opened = open_run(config, directory, store, progress=heard)
        if stage == "collect":
            heard.expect({"prune": 0.0})
        table, order = collect_stage(*opened, specs)
        if stage == "collect":
            measure_more(*opened, table, num_more)
            return None
        fit_stage(opened.run)
        return prune_stage(*opened, table, order, specs)
