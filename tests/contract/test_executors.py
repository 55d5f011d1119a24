from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from triaxis.execution import Executor, SerialExecutor, make_executor, run_trials
from triaxis.testing import ExecutorContract, FakeTrainer, chain_specs
from triaxis.values import TrialResult, TrialSpec


class TestSerialExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return SerialExecutor()


class TestRayExecutor(ExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def cluster(cls) -> Iterator[None]:
        ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()

    @pytest.fixture
    def executor(self, cluster: None) -> Executor:
        return make_executor("ray", workers=2)

    def test_a_worker_process_that_dies_is_a_failed_trial(self, executor: Executor) -> None:
        specs = chain_specs()[:2]

        def die_on_the_first(spec: TrialSpec) -> TrialResult:
            if spec.parent is None:
                return FakeTrainer()(spec)
            os._exit(1)

        first, second = run_trials(executor, specs, die_on_the_first, lambda result: None)
        assert (first.state, second.state) == ("done", "failed")
        assert "worker process ended" in str(second.error)
