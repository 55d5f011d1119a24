"""The choice holds its budget under noise, learns from what it measured, and never gives a run up for it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from triaxis.errors import InfeasibleBudgetError, RefusedModelError
from triaxis.maths.fit import fit
from triaxis.maths.solve import candidates
from triaxis.metrics.gauge import Measurement, in_turns
from triaxis.stages import choose
from triaxis.stages.fit import points_from_trials
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import Budget, KeepRatios, Solution

LIMIT = 0.5


class Contexts:
    """What `choose` uses of a run, its base model and its trainer; a cut is a module that knows its levels."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        store = SimpleNamespace(record=self.records.get, put_record=self.records.__setitem__, trials=lambda: ())
        self.run = SimpleNamespace(store=store)
        self.base = SimpleNamespace(surgeon=SimpleNamespace(cut=self._cut), shape_at=lambda side: (3, side, side))
        self.trainer = SimpleNamespace(measuring=contextlib.nullcontext)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.run, None, self.base, self.trainer))

    def _cut(self, plan: Any) -> nn.Module:
        model = nn.Identity()
        model.levels = plan.levels  # type: ignore[assignment]
        return model

    def measuring(self) -> AbstractContextManager[None]:
        return nullcontext()


class Gauge:
    """Measures the known latency of a cut, `factor` times what the table says, on a machine that is busy at random."""

    def __init__(self, table: Any, factor: float, noise: float, seed: int) -> None:
        self.metric = SimpleNamespace(is_counted=False)
        self.table, self.factor, self.noise = table, factor, noise
        self.generator = random.Random(seed)
        self.measured = 0
        self.odd: dict[Any, float] = {}
        self.refused: set[Any] = set()

    def measure(self, model: Any, shape: Any, *, is_clear: Any, seconds: float = 1.0) -> Measurement:
        self.measured += 1
        if model.levels in self.refused:
            raise RefusedModelError("The runtime must run every cut, but it refuses one: no kernel.")
        true = self.share(model.levels)

        def slowness() -> float:
            return self.generator.lognormvariate(0, self.noise)

        return in_turns(slowness, lambda: true * slowness(), seconds=0.0, is_clear=is_clear)

    def share(self, levels: Any) -> float:
        i, j, k = levels
        if levels in self.odd:
            return self.odd[levels]
        base = self.table.costs["latency_ms"][0][0][0]
        return min(1.0, self.factor * self.table.costs["latency_ms"][i][j][k] / base) if any(levels) else 1.0


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch):
    def make(factor: float, noise: float, seed: int = 0, limit: float = LIMIT):
        trainer = FakeTrainer()
        table = trainer.cost_table()
        table = dataclasses.replace(table, costs={**table.costs, "latency_ms": table.costs["macs"]})
        predictor, _ = fit(points_from_trials([trainer(spec) for spec in chain_specs()]))
        gauge, contexts = Gauge(table, factor, noise, seed), Contexts()
        monkeypatch.setattr(choose, "gauge_of", lambda run, base, trainer, key: gauge)
        monkeypatch.setattr(choose, "starting_point", lambda run, base, blocks: ("start", {}))
        monkeypatch.setattr(choose, "final_plan", lambda run, data, base, trainer, solution, order, start: _plan(table, solution))
        budget = Budget(metric="latency_ms", limit=limit * table.base_cost("latency_ms"), fraction=limit)
        return contexts, predictor, table, budget, gauge

    return make


def _plan(table: Any, solution: Solution) -> Any:
    levels = (table.blocks.index(solution.blocks), table.widths.index(solution.width), table.sides_px.index(solution.side_px))
    return SimpleNamespace(levels=levels, side_px=solution.side_px, achieved=KeepRatios())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
def test_the_chosen_cut_is_within_its_budget_whatever_the_noise(setting, noise: float, seed: int) -> None:
    contexts, predictor, table, budget, gauge = setting(1.0, noise, seed)
    found = choose.choose(*contexts, predictor, table, [budget], ())
    # A 90 % interval from turns on a very noisy machine may be wrong by a little, and never by much.
    assert gauge.share(found.plan.levels) <= LIMIT * (1 + 0.25 * noise + 1e-9)


def test_a_table_that_is_too_hopeful_is_corrected(setting) -> None:
    contexts, predictor, table, budget, gauge = setting(1.6, 0.0)
    found = choose.choose(*contexts, predictor, table, [budget], ())
    assert gauge.share(found.plan.levels) <= LIMIT
    assert gauge.measured < 10, "what was measured must steer what is tried next"


def test_a_table_that_is_too_cautious_does_not_cost_accuracy(setting) -> None:
    contexts, predictor, table, budget, gauge = setting(0.7, 0.0)
    found = choose.choose(*contexts, predictor, table, [budget], ())
    assert gauge.share(found.plan.levels) <= LIMIT
    by_table = candidates(predictor, table, [budget], num=1)[0]
    assert found.solution.predicted_accuracy > by_table.predicted_accuracy


def test_a_cut_that_is_slower_than_a_wider_one_is_not_delivered(setting) -> None:
    """The table's best cut is within the budget; its wider neighbour should be over it, and measures faster."""
    contexts, predictor, table, budget, gauge = setting(1.0, 0.0)
    i, j, k = choose.choose(*contexts, predictor, table, [budget], ()).plan.levels
    assert j > 0 and table.costs["latency_ms"][i][j - 1][k] > budget.limit
    contexts, *_, gauge = setting(1.0, 0.0)
    gauge.odd = {(i, j - 1, k): 0.9 * gauge.share((i, j, k))}
    assert choose.choose(*contexts, predictor, table, [budget], ()).plan.levels == (i, j - 1, k)


def test_one_measurement_gone_wrong_does_not_end_the_run(setting) -> None:
    """By it every cut of the table would be too dear; the cheapest one says otherwise, and better ones are tried from there."""
    contexts, predictor, table, budget, gauge = setting(1.0, 0.0)
    best = choose.choose(*contexts, predictor, table, [budget], ()).plan.levels
    contexts, *_, gauge = setting(1.0, 0.0)
    gauge.odd = {best: 40.0}
    found = choose.choose(*contexts, predictor, table, [budget], ())
    assert gauge.share(found.plan.levels) <= LIMIT
    assert found.plan.levels != (len(table.blocks) - 1, len(table.widths) - 1, len(table.sides_px) - 1)


def test_cuts_that_the_runtime_refuses_are_passed_over(setting) -> None:
    contexts, predictor, table, budget, gauge = setting(1.0, 0.0)
    best = choose.choose(*contexts, predictor, table, [budget], ()).plan.levels
    contexts, *_, gauge = setting(1.0, 0.0)
    gauge.refused = {best}
    found = choose.choose(*contexts, predictor, table, [budget], ())
    assert found.plan.levels != best and gauge.share(found.plan.levels) <= LIMIT


def test_where_every_cut_is_refused_the_runtime_is_named(setting) -> None:
    contexts, predictor, table, budget, gauge = setting(1.0, 0.0)
    gauge.refused = set(itertools.product(range(len(table.blocks)), range(len(table.widths)), range(len(table.sides_px))))
    with pytest.raises(RefusedModelError, match="no kernel"):
        choose.choose(*contexts, predictor, table, [budget], ())


def test_a_run_that_goes_on_does_not_measure_again(setting) -> None:
    contexts, predictor, table, budget, gauge = setting(1.0, 0.2)
    first = choose.choose(*contexts, predictor, table, [budget], ())
    measured = gauge.measured
    again = choose.choose(*contexts, predictor, table, [budget], ())
    assert again.solution == first.solution
    assert gauge.measured == measured


def test_a_budget_below_every_cut_is_refused_with_the_smallest_cost(setting) -> None:
    contexts, predictor, table, budget, _ = setting(1e4, 0.0)
    with pytest.raises(InfeasibleBudgetError, match="raise the budget"):
        choose.choose(*contexts, predictor, table, [budget], ())
