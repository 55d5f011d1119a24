"""The whole decision loop, design to solution, on a trainer with a known optimum; no torch anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from triaxis.config import Config, config_from_plain
from triaxis.errors import ConfigError, InfeasibleBudgetError, StoreError
from triaxis.execution import SerialExecutor, run_trials
from triaxis.stages.fit import fit_run, points_from_trials, read_predictor
from triaxis.stages.solve import frontier_run, solve_run
from triaxis.store import MemoryStore, open_store
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import BudgetSpec, KeepRatios

# Ratios that nine blocks, 64 channels and 32 pixels reach exactly or nearly, so that the chains reach the table's ends.
RATIOS = (0.9, 0.75, 0.6, 0.45, 0.25)
CONFIG = config_from_plain({"fit": {"kind": "polynomial", "degree": 2}})


def collected(trainer: FakeTrainer) -> MemoryStore:
    store = MemoryStore()
    run_trials(SerialExecutor(), chain_specs(RATIOS), trainer, store.put_trial, store.trial)
    store.put_record("cost_table", trainer.cost_table().to_json())
    return store


@pytest.fixture(scope="module")
def fitted() -> MemoryStore:
    store = collected(FakeTrainer())
    fit_run(store, CONFIG)
    return store


def test_points_are_what_was_achieved_and_failed_trials_give_none() -> None:
    specs = chain_specs()
    trainer = FakeTrainer(broken=frozenset({specs[1].trial_id}))
    results = run_trials(SerialExecutor(), specs, trainer, lambda result: None)
    points = points_from_trials(results)
    assert len(points) == len(specs) - 4
    assert {point.ratios.depth for point in points} == {1.0}
    assert points[1].ratios == KeepRatios(width=54 / 64)  # 0.85 was asked for
    assert points[1].accuracy == trainer.accuracy(points[1].ratios)


def test_an_exactly_separable_surface_is_found_exactly(fitted: MemoryStore) -> None:
    predictor, report = read_predictor(fitted)
    assert report.rmse < 1e-6
    assert report.leave_one_out_mae < 1e-6
    assert predictor.degree == 2


@pytest.mark.parametrize("percent", [70, 50, 35, 25, 12])
def test_the_solution_is_the_known_optimum(fitted: MemoryStore, percent: int) -> None:
    trainer = FakeTrainer()
    solution = solve_run(fitted, [BudgetSpec.parse(f"macs={percent}%")])
    best = trainer.best(percent / 100 * trainer.macs)
    assert trainer.accuracy(solution.ratios) == pytest.approx(trainer.accuracy(best), abs=1e-9)
    assert solution.predicted_accuracy == pytest.approx(trainer.accuracy(best), abs=1e-5)
    assert trainer.cost(solution.ratios) <= percent / 100 * trainer.macs


def test_noise_of_a_usual_val_split_costs_little() -> None:
    trainer = FakeTrainer(noise=0.004)
    store = collected(trainer)
    fit_run(store, Config())
    solution = solve_run(store, [BudgetSpec.parse("macs=50%")])
    best = trainer.best(0.5 * trainer.macs)
    assert trainer.accuracy(best) - trainer.accuracy(solution.ratios) < 0.01


def test_the_frontier_falls_with_the_cost(fitted: MemoryStore) -> None:
    found = frontier_run(fitted, "macs", 20)
    accuracies = [s.predicted_accuracy for s in sorted(found, key=lambda s: s.costs["macs"])]
    assert len(found) == 20
    assert accuracies == sorted(accuracies)


def test_an_absolute_budget_and_a_fraction_agree(fitted: MemoryStore) -> None:
    assert solve_run(fitted, [BudgetSpec.parse("macs=20M")]).ratios == solve_run(fitted, [BudgetSpec.parse("macs=50%")]).ratios


def test_an_impossible_budget_names_the_smallest_cost(fitted: MemoryStore) -> None:
    with pytest.raises(InfeasibleBudgetError):
        solve_run(fitted, [BudgetSpec.parse("macs=1k")])


def test_a_metric_without_costs_is_named(fitted: MemoryStore) -> None:
    with pytest.raises(ConfigError, match="latency_ms"):
        solve_run(fitted, [BudgetSpec.parse("latency=3ms")])
    with pytest.raises(ConfigError, match="params"):
        frontier_run(fitted, "params")


def test_a_stage_that_is_missing_is_named_with_its_command() -> None:
    store, specs = MemoryStore(), [BudgetSpec.parse("macs=50%")]
    with pytest.raises(StoreError, match="triaxis collect"):
        fit_run(store, Config())
    with pytest.raises(StoreError, match="triaxis collect"):
        solve_run(store, specs)
    store.put_record("cost_table", FakeTrainer().cost_table().to_json())
    with pytest.raises(StoreError, match="triaxis fit"):
        solve_run(store, specs)


def test_an_interrupted_collection_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    trainer, specs, num_calls = FakeTrainer(noise=0.01), chain_specs(RATIOS), 0

    def stopped_after_seven(spec):
        nonlocal num_calls
        num_calls += 1
        if num_calls == 8:
            raise KeyboardInterrupt
        return trainer(spec)

    with open_store(tmp_path / "store.sqlite") as store, pytest.raises(KeyboardInterrupt):
        run_trials(SerialExecutor(), specs, stopped_after_seven, store.put_trial, store.trial)
    with open_store(tmp_path / "store.sqlite") as store:
        assert len(store.trials()) == 7
        run_trials(SerialExecutor(), specs, stopped_after_seven, store.put_trial, store.trial)
        assert num_calls == 8 + len(specs) - 7
        assert {t.trial_id: t for t in store.trials()} == {t.trial_id: t for t in collected(trainer).trials()}
