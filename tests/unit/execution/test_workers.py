"""Worker processes: every task ends once, whatever happens to a worker."""

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
from triaxis.execution.workers import Died, Replied, Said, Workers, replies

# A spawned process imports what it does by name, so that it must be in a module of its own.
WORK = """
import os
import time

class Odd(Exception):
    def __init__(self, number, text):
        super().__init__(text)

def do(task, say):
    if task == "die":
        os._exit(9)
    if task == "raise":
        raise ValueError("a reason")
    if task == "missing":
        open("/nowhere/at/all")
    if task == "odd":
        raise Odd(1, "does not pickle")
    if task == "wait for the file":
        while not os.path.exists(os.environ["TRIAXIS_TEST_FILE"]):
            time.sleep(0.01)
    if task == "talk":
        say(0.25)
        say(0.75)
    return f"{task} done"

def open_work():
    return do

def open_silent():
    return lambda task: do(task, None)

def open_nothing():
    raise FileNotFoundError("no such images")

def end_at_once():
    os._exit(3)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "workers_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("workers_work")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


def test_every_task_is_replied_to_once(module: ModuleType) -> None:
    tasks = [str(n) for n in range(7)]
    found = list(replies(tasks, module.open_silent, 2, lambda task: f"{task} died"))
    assert sorted(found) == [f"{task} done" for task in tasks]


def test_a_death_is_answered_for_and_the_rest_goes_on(module: ModuleType) -> None:
    found = list(replies(["die", "1", "2"], module.open_silent, 1, lambda task: f"{task} died"))
    assert found == ["die died", "1 done", "2 done"]


def test_a_death_takes_no_task_of_another_worker(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "go"
    monkeypatch.setenv("TRIAXIS_TEST_FILE", str(file))
    with Workers(module.open_work, 2) as workers:
        workers.submit("wait for the file")
        workers.submit("die")
        assert workers.next_event() == Died("die", 9)
        file.touch()
        assert workers.next_event() == Replied("wait for the file", "wait for the file done")


def test_an_idle_worker_that_is_killed_is_replaced(module: ModuleType) -> None:
    with Workers(module.open_work, 1) as workers:
        workers.submit("1")
        assert workers.next_event() == Replied("1", "1 done")
        (idle,) = multiprocessing.active_children()
        os.kill(idle.pid or 0, signal.SIGKILL)
        idle.join()
        workers.submit("2")
        assert workers.next_event() == Replied("2", "2 done")


def test_what_a_task_says_on_its_way_is_heard_in_order(module: ModuleType) -> None:
    with Workers(module.open_work, 1) as workers:
        workers.submit("talk")
        assert [workers.next_event() for _ in range(3)] == [Said("talk", 0.25), Said("talk", 0.75), Replied("talk", "talk done")]


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [("raise", ValueError, "a reason"), ("missing", FileNotFoundError, "nowhere"), ("odd", RuntimeError, "Odd: does not pickle")],
)
def test_an_error_is_raised_here_and_stops_the_workers(module: ModuleType, task: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as found:
        list(replies([task, "1"], module.open_silent, 1, lambda task: "died"))
    assert "Traceback" in str(found.value.__cause__)


def test_a_worker_that_cannot_open_its_work_raises_here(module: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match="no such images"):
        list(replies(["1"], module.open_nothing, 1, lambda task: "died"))


def test_a_worker_that_cannot_start_is_not_replaced_for_ever(module: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"code 3 before its first task.*__main__"):
        list(replies(["1"], module.end_at_once, 1, lambda task: "died"))


def test_what_does_not_pickle_is_said() -> None:
    with pytest.raises(ConfigError, match="must pickle, but"):
        Workers(functools.partial(print, threading.Lock()), 1)


def test_a_function_within_a_function_is_sent_by_value(module: ModuleType) -> None:
    reply = "of a closure"
    with Workers(lambda: lambda task, say: f"{task} {reply}", 1) as workers:
        workers.submit("1")
        assert workers.next_event() == Replied("1", "1 of a closure")
