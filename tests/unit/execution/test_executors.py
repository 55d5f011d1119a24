from __future__ import annotations

import builtins
from typing import Any

import pytest

from triaxis.errors import MissingDependencyError
from triaxis.execution import SerialExecutor, make_executor, run_trials
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import TrialSpec


def test_ctrl_c_passes_through() -> None:
    def interrupted(spec: TrialSpec) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(SerialExecutor(), chain_specs(), interrupted, lambda result: None)


def test_a_result_is_handed_over_before_the_next_trial_starts() -> None:
    events: list[str] = []
    trainer = FakeTrainer()

    def work(spec: TrialSpec) -> Any:
        events.append(f"start {spec.trial_id}")
        return trainer(spec)

    run_trials(SerialExecutor(), chain_specs(), work, lambda result: events.append(f"store {result.trial_id}"))
    starts, stores = events[::2], events[1::2]
    assert [event.split()[1] for event in starts] == [event.split()[1] for event in stores]
    assert all(event.startswith("store") for event in stores)


def test_ray_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(MissingDependencyError, match=r"triaxis\[ray\]"):
        make_executor("ray", 2)


def test_serial_is_what_the_configuration_calls_serial() -> None:
    assert isinstance(make_executor("serial", 4), SerialExecutor)


def test_noise_of_the_fake_trainer_comes_from_the_trial_alone() -> None:
    base, first, *_ = chain_specs()
    noisy = FakeTrainer(noise=0.01)
    assert noisy(first) == noisy(first)
    assert noisy(first).val_accuracy != FakeTrainer()(first).val_accuracy
    assert noisy(base).plan is not None and noisy(base).plan.is_identity
