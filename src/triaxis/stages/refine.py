"""Refine: trials that cut several axes at once, placed where they tell most, on top of the chains of `collect`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from triaxis.maths.design import next_trial, off_axis
from triaxis.maths.lattice import Lattice
from triaxis.stages.collect import joint_spec, measure_trials, record_cost
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.fit import fit_run, predictor_to_place_by
from triaxis.values import CostTable, TrialSpec

log = logging.getLogger(__name__)


def measure_off_axis(run: Run, data: Data, base: Base, trainer: Trainer, table: CostTable, num: int) -> None:
    """Measure `num` trials where, for no budget in particular, they lower the predictor's variance most.

    Places are chosen once, from the trials on the axes, so that a run that goes on measures the same ones.
    """
    chosen = run.store.record("off_axis_levels")
    if chosen is None:
        predictor = predictor_to_place_by(run.store, run.config)
        chosen = [list(levels) for levels in off_axis(table, predictor, num)]
        run.store.put_record("off_axis_levels", chosen)
    _measure(run, data, base, trainer, [joint_spec(run, data, base, table, levels) for levels in chosen])


def measure_more(run: Run, data: Data, base: Base, trainer: Trainer, table: CostTable, num: int) -> int:
    """Measure up to `num` trials, one at a time, each where the configured budgets' solution may gain most.

    Stops early when no other cut can beat the solution by more than one measurement's interval.

    Returns:
        The number of trials measured.
    """
    lattice = Lattice(table)
    budgets = [spec.resolve(table.base_cost(spec.metric)) for spec in run.config.budgets]
    for done in range(num):
        predictor = predictor_to_place_by(run.store, run.config)
        measured = {lattice.of_target(trial.spec.target) for trial in run.store.trials()}  # failed ones too
        following = next_trial(predictor, table, budgets, measured=measured)
        if not following.is_worth_it or following.levels in measured:
            log.info("stopped after %d trials: another could change the solution by %.4f at most", done, following.regret_bound)
            return done
        _measure(run, data, base, trainer, [joint_spec(run, data, base, table, following.levels)])
    if num:
        fit_run(run.store, run.config)
    return num


def _measure(run: Run, data: Data, base: Base, trainer: Trainer, specs: Sequence[TrialSpec]) -> None:
    measure_trials(run, data, base, trainer, specs, "refine")
    record_cost(run, data, trainer, run.store.trials())
