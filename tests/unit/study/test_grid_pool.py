"""Worker processes: every task is answered once, whatever happens to a worker."""

from __future__ import annotations

import importlib
import multiprocessing
from pathlib import Path

import pytest

from triaxis.study.grid_pool import answers

# A spawned process imports what it does by name, so that it must be in a module of its own.
WORK = """
import os

def open_work():
    def work(task):
        if task == "die":
            os._exit(9)
        if task == "raise":
            raise ValueError("a reason")
        return f"{task} done"
    return work
"""


@pytest.fixture
def open_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "grid_pool_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("grid_pool_work").open_work


def test_every_task_is_answered_once(open_work) -> None:
    tasks = [str(n) for n in range(7)]
    found = list(answers(tasks, open_work, 2, lambda task: f"{task} died"))
    assert sorted(found) == [f"{task} done" for task in tasks]
    assert not multiprocessing.active_children()


def test_a_worker_s_death_is_answered_for_and_the_rest_goes_on(open_work) -> None:
    found = list(answers(["die", "1", "2"], open_work, 1, lambda task: f"{task} died"))
    assert found == ["die died", "1 done", "2 done"]


def test_an_error_stops_the_workers(open_work) -> None:
    with pytest.raises(ValueError, match="a reason"):
        list(answers(["raise", "1"], open_work, 1, lambda task: "died"))
    for child in multiprocessing.active_children():
        child.join(timeout=60)
    assert not multiprocessing.active_children()
