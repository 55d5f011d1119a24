"""Trials off the axes are placed and measured before a predictor that needs them is fitted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from triaxis.config import Config, config_from_plain
from triaxis.errors import ConfigError
from triaxis.execution import SerialExecutor, run_trials
from triaxis.maths.design import NextTrial
from triaxis.progress import Progress
from triaxis.stages import collect, refine
from triaxis.stages.context import Opened
from triaxis.stages.fit import fit_run, predictor_to_place_by, read_predictor
from triaxis.stages.pipeline import run
from triaxis.store import MemoryStore
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import AccuracyPredictor, CostTable

TRAINER = FakeTrainer(noise=0.001)


@pytest.fixture
def table() -> CostTable:
    return TRAINER.cost_table()


def contexts(config: Config, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Return what the stage sees of a run whose chains are measured; its trials are the trainer's."""
    monkeypatch.setattr(collect, "run_trial", lambda run, data, base, trainer, spec, advance=None: TRAINER(spec))
    monkeypatch.setattr(refine, "record_cost", lambda run, data, trainer, trials: None)
    store = MemoryStore()
    run_trials(SerialExecutor(), chain_specs((0.9, 0.75, 0.6, 0.45, 0.25)), TRAINER, store.put_trial, store.trial)
    progress = Progress()
    run = SimpleNamespace(store=store, config=config, timed=progress.stage, progress=progress)
    return Opened(run, SimpleNamespace(digest="data"), SimpleNamespace(digest="base"), SimpleNamespace(forget=lambda trial_id: None))  # type: ignore[arg-type]


@pytest.mark.parametrize("degree", [None, 2])
def test_rank_2_is_fitted_after_its_off_axis_trials(degree: int | None, table: CostTable, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"fit": {"rank": 2, "degree": degree}, "collect": {"off_axis": 8}}
    opened = contexts(config_from_plain(plain), monkeypatch)
    refine.measure_off_axis(*opened, table, 8)
    predictor, report = fit_run(opened.run.store, opened.run.config)
    joint = [trial for trial in opened.run.store.trials() if trial.spec.axis == "joint"]
    assert (predictor.rank, predictor.kind, len(joint), report.num_points) == (2, "polynomial", 8, 24)
    assert report.rmse < (0.005 if degree else 0.03)  # left to choose, it takes straight lines: leave-one-out finds them safer here


def test_rank_2_without_trials_off_the_axes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"collect\.off_axis 3"):
        run(config_from_plain({"fit": {"rank": 2}, "collect": {"off_axis": 3}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_trials_are_placed_before_rank_2_can_be_fitted(table: CostTable, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = contexts(config_from_plain({"fit": {"rank": 2}}), monkeypatch)
    placed: list[str] = []

    def stopped(predictor: AccuracyPredictor, *_: Any, **__: Any) -> NextTrial:
        placed.append(predictor.kind)
        return NextTrial((1, 1, 1), 0.0, 0.0, 0.1)

    monkeypatch.setattr(refine, "next_trial", stopped)
    assert refine.measure_more(*opened, table, 1) == 0
    assert placed == ["growth"]


def test_rank_1_is_placed_by_its_own_predictor_which_is_stored(table: CostTable, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = contexts(config_from_plain({"fit": {"degree": 2}}), monkeypatch)
    assert predictor_to_place_by(opened.run.store, opened.run.config) == read_predictor(opened.run.store)[0]
