from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from triaxis.errors import ConfigError
from triaxis.execution import Executor, SerialExecutor, Work, make_executor, run_trials
from triaxis.testing import ExecutorContract, FakeTrainer, chain_specs
from triaxis.values import FailedTrial, TrialResult, TrialSpec

DYING = """
import os
from pathlib import Path

from triaxis.testing import FakeTrainer


def die_once(spec):
    mark = Path(os.environ["TRIAXIS_TEST_FOLDER"]) / spec.trial_id
    if spec.axis == "width" and not mark.exists():
        mark.touch()
        os._exit(7)
    return FakeTrainer()(spec)


def die_on_depth(spec):
    if spec.axis == "depth":
        os._exit(7)
    return FakeTrainer()(spec)
"""


class TestSerialExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return SerialExecutor()


class TestProcessesExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return make_executor("processes", workers=2)

    @pytest.fixture
    def work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """A module, since what other processes do is imported there by name."""
        (tmp_path / "executors_work.py").write_text(DYING)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("TRIAXIS_TEST_FOLDER", str(tmp_path))
        return importlib.import_module("executors_work")

    def test_a_trial_whose_process_dies_is_started_again_and_counted_once(self, executor: Executor, work: ModuleType) -> None:
        specs, seen = chain_specs(), list[str]()
        results = run_trials(executor, specs, work.die_once, lambda result: seen.append(result.trial_id))
        assert results == tuple(FakeTrainer()(spec) for spec in specs)
        assert sorted(seen) == sorted(spec.trial_id for spec in specs)
        assert not multiprocessing.active_children()

    def test_a_trial_whose_process_always_dies_has_failed_and_the_others_go_on(self, executor: Executor, work: ModuleType) -> None:
        specs = chain_specs()
        results = run_trials(executor, specs, work.die_on_depth, lambda result: None)
        assert [result.state for result in results] == ["done", *["failed"] * 4, *["done"] * 8]
        assert isinstance(results[1], FailedTrial) and "worker process ended with code 7" in results[1].error

    def test_work_that_cannot_be_sent_is_said_before_anything_is_done(self, executor: Executor) -> None:
        with pytest.raises(ConfigError, match="must pickle"):
            run_trials(executor, chain_specs(), functools.partial(FakeTrainer().__call__, threading.Lock()), lambda result: None)


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

    def test_a_worker_process_that_dies_again_and_again_is_a_failed_trial(self, executor: Executor) -> None:
        specs = chain_specs()[:2]

        def die_on_the_second(spec: TrialSpec) -> TrialResult:
            if spec.parent is None:
                return FakeTrainer()(spec)
            os._exit(1)

        executor = make_executor("ray", workers=2, retries=1)
        first, second = run_trials(executor, specs, die_on_the_second, lambda result: None)
        assert (first.state, second.state) == ("done", "failed")
        assert "worker process ended, 2 times in all" in str(second.error)

    def test_a_trial_that_is_not_heard_of_is_started_again(self, cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = chain_specs()[0]
        monkeypatch.setattr("triaxis.execution.ray.BEAT_S", 0.1)

        def stop_on_the_first(spec: TrialSpec) -> TrialResult:
            try:
                (tmp_path / "tried").touch(exist_ok=False)
            except FileExistsError:
                return FakeTrainer()(spec)
            os.kill(os.getpid(), signal.SIGSTOP)
            raise AssertionError("this process does not go on")

        heard = make_executor("ray", workers=1, silent_s=3.0, retries=5)
        assert run_trials(heard, [spec], stop_on_the_first, lambda result: None) == (FakeTrainer()(spec),)

    def test_what_is_prepared_arrives_and_what_is_made_comes_back(self, executor: Executor) -> None:
        specs = chain_specs()[:3]
        kept = {}

        def do(spec: TrialSpec, given: object, tell: object) -> tuple[TrialResult, object]:
            return FakeTrainer()(spec), (os.getpid(), given)

        def keep(result: TrialResult, made: tuple[int, object]) -> TrialResult:
            kept[result.trial_id] = made
            return result

        run_trials(executor, specs, Work(do, prepare=lambda spec: f"for {spec.trial_id}", keep=keep), lambda result: None)
        assert {trial_id: given for trial_id, (_, given) in kept.items()} == {s.trial_id: f"for {s.trial_id}" for s in specs}
        assert os.getpid() not in {pid for pid, _ in kept.values()}
