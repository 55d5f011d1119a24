"""A run whose trials are measured in worker processes has the numbers of one that measures them one after another."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

from triaxis.config import Config
from triaxis.stages.pipeline import run
from triaxis.store.directory import RunDirectory


def numbers(directory: Path) -> dict[str, Any]:
    """All of each trial but its times."""
    with RunDirectory(directory).read() as store:
        plain = {trial.trial_id: trial.to_json() for trial in store.trials()}
    return {trial_id: {key: item for key, item in one.items() if not key.startswith("seconds")} for trial_id, one in plain.items()}


def test_trials_in_processes_give_the_same_numbers(finished: Path, tiny: Config, tmp_path: Path) -> None:
    config = tiny.model_copy(update={"collect": tiny.collect.model_copy(update={"executor": "processes", "workers": 2})})
    run(config, tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(finished)
    assert not multiprocessing.active_children()
