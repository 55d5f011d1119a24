"""What every executor must do; a subclass gives the fixture `executor`."""

from __future__ import annotations

import random

import pytest

from triaxis.errors import ConfigError, StoreError
from triaxis.execution.base import Executor, run_trials
from triaxis.testing.trainer import FakeTrainer, chain_specs
from triaxis.values import FailedTrial, TrialResult, TrialSpec


def _disk_full(spec: TrialSpec) -> TrialResult:
    raise StoreError("the disk is full")


class ExecutorContract:
    """Subclass it under a name that pytest collects. `executor` must be overridden."""

    @pytest.fixture
    def executor(self) -> Executor:
        """Return the executor under test."""
        raise NotImplementedError

    def test_every_trial_gives_its_result_in_the_order_asked_for(self, executor: Executor) -> None:
        specs, trainer = chain_specs(), FakeTrainer(noise=0.01)
        assert run_trials(executor, specs, trainer, lambda result: None) == tuple(trainer(spec) for spec in specs)

    def test_the_order_of_the_specs_does_not_matter(self, executor: Executor) -> None:
        specs, trainer = chain_specs(), FakeTrainer()
        seen: list[TrialResult] = []
        random.Random(0).shuffle(specs)
        run_trials(executor, specs, trainer, seen.append)
        place = {result.trial_id: i for i, result in enumerate(seen)}
        assert len(place) == len(seen) == len(specs)
        assert all(place[spec.parent] < place[spec.trial_id] for spec in specs if spec.parent)

    def test_a_failure_is_a_record_and_ends_its_chain_only(self, executor: Executor) -> None:
        specs = chain_specs()
        trainer = FakeTrainer(broken=frozenset({specs[2].trial_id}))
        results = run_trials(executor, specs, trainer, lambda result: None)
        assert [result.state for result in results] == ["done", "done", "failed", "failed", "failed", *["done"] * 8]
        assert isinstance(results[2], FailedTrial) and isinstance(results[3], FailedTrial)
        assert "RuntimeError" in results[2].error and "breaks on purpose" in results[2].error
        assert specs[2].trial_id in results[3].error

    def test_known_trials_are_not_run_again(self, executor: Executor) -> None:
        specs, trainer = chain_specs(), FakeTrainer()
        seen: list[TrialResult] = []
        known = {spec.trial_id: trainer(spec) for spec in specs[:3]}
        results = run_trials(executor, specs, trainer, seen.append, known.get)
        assert [result.trial_id for result in results] == [spec.trial_id for spec in specs]
        assert {result.trial_id for result in seen} == {spec.trial_id for spec in specs[3:]}

    def test_a_failed_trial_is_tried_again(self, executor: Executor) -> None:
        specs, trainer = chain_specs()[:2], FakeTrainer()
        known = {specs[1].trial_id: FailedTrial(spec=specs[1], error="power cut")}
        assert [result.state for result in run_trials(executor, specs, trainer, lambda result: None, known.get)] == ["done", "done"]

    def test_a_trial_given_twice_is_run_once(self, executor: Executor) -> None:
        base = chain_specs()[0]
        seen: list[TrialResult] = []
        first, second = run_trials(executor, [base, base], FakeTrainer(), seen.append)
        assert first == second and len(seen) == 1

    def test_a_parent_from_nowhere_is_named(self, executor: Executor) -> None:
        orphan = chain_specs()[1]
        with pytest.raises(ConfigError, match=str(orphan.parent)):
            run_trials(executor, [orphan], FakeTrainer(), lambda result: None)

    def test_a_full_disk_ends_the_experiment(self, executor: Executor) -> None:
        with pytest.raises(StoreError, match="disk is full"):
            run_trials(executor, chain_specs()[:1], _disk_full, lambda result: None)

    def test_no_trials_is_no_work(self, executor: Executor) -> None:
        assert run_trials(executor, [], FakeTrainer(), lambda result: None) == ()
