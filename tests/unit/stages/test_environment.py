"""Threads and mode are chosen once per run and stored; a run that goes on takes them up, unless the machine has become slow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from triaxis.config import Config
from triaxis.stages import environment
from triaxis.stages.environment import how_to_train
from triaxis.store.memory import MemoryStore
from triaxis.training.machine import Machine, num_threads
from triaxis.training.mode import PLAIN, Mode

CPU = torch.device("cpu")
SHAPE = (8, 3, 4, 4)


@pytest.fixture(autouse=True)
def _two_threads():
    with num_threads(2):
        yield


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))


Clock = Callable[..., list[tuple[int, ...]]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets what the stopwatch finds, by threads; returns the threads that were asked for, call by call."""

    def set_to(seconds: Mapping[int, float]) -> list[tuple[int, ...]]:
        asked: list[tuple[int, ...]] = []

        def found(model: nn.Module, shape: object, device: object, mode: Mode, counts: tuple[int, ...], *_: object, **__: object) -> dict:
            asked.append(counts)
            return {count: seconds[count] for count in counts}

        for module in ("triaxis.stages.environment", "triaxis.training.machine"):
            monkeypatch.setattr(f"{module}.time_threads", found)
        return asked

    return set_to


@pytest.fixture(autouse=True)
def _mode_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "choose_mode", lambda *args, precision, loss_of: (Mode(precision="bf16"), {"fp32 channels_last": 2.0}))


def test_the_fastest_threads_are_set_and_stored(network, clock):
    store = MemoryStore()
    clock({2: 3.0, 1: 1.0})
    mode, machine = how_to_train(Config(), store, network, SHAPE, CPU)
    assert (machine.threads, machine.most, torch.get_num_threads()) == (1, 2, 1)
    record = store.record("environment")
    assert record["threads"] == 1 and record["threads_seconds"] == {"2": 3.0, "1": 1.0}
    assert mode == Mode(precision="bf16") == Mode.from_json(record["mode"])


def test_a_number_that_was_given_is_a_rule(network, clock):
    store, asked = MemoryStore(), clock({})
    _, machine = how_to_train(Config(threads=2), store, network, SHAPE, CPU)
    assert asked == [] and not machine.is_free and store.record("environment")["threads"] == 2


def test_a_run_that_goes_on_takes_what_it_had(network, clock):
    store = MemoryStore()
    clock({2: 3.0, 1: 1.0})
    how_to_train(Config(), store, network, SHAPE, CPU)
    torch.set_num_threads(2)
    asked = clock({2: 1.0, 1: 1.9})
    _, machine = how_to_train(Config(), store, network, SHAPE, CPU)
    assert (machine.threads, torch.get_num_threads()) == (1, 1)
    assert asked == [(1,)], "only its own number is timed, to see whether the machine has become slow"


def test_a_run_that_goes_on_at_less_than_half_its_speed_looks_again(network, clock, caplog):
    store = MemoryStore()
    clock({2: 1.0, 1: 1.9})
    how_to_train(Config(), store, network, SHAPE, CPU)
    clock({2: 100.0, 1: 2.0})
    _, machine = how_to_train(Config(), store, network, SHAPE, CPU)
    assert (machine.threads, torch.get_num_threads(), store.record("environment")["threads"]) == (1, 1, 1)
    assert "1 instead of 2 threads" in caplog.text


def test_a_run_of_version_0_1_goes_on_as_it_began(network, clock):
    store, asked = MemoryStore(), clock({})
    store.put_record("environment", {"device": "cpu", "threads": 2, "mode": PLAIN.to_json(), "mode_seconds": {}, "versions": {}})
    mode, machine = how_to_train(Config(), store, network, SHAPE, CPU)
    assert (mode, machine.threads, asked) == (PLAIN, 2, [])


def test_a_machine_with_fewer_cores_than_the_run_had_uses_those_it_has(network, clock):
    store = MemoryStore()
    clock({})
    store.put_record("environment", {"threads": 64, "mode": PLAIN.to_json()})
    assert how_to_train(Config(), store, network, SHAPE, CPU)[1].threads == 2


def test_what_is_learnt_about_memory_is_stored_and_read_back(network, clock):
    store = MemoryStore()
    clock({2: 1.0, 1: 2.0})
    _, machine = how_to_train(Config(), store, network, SHAPE, CPU)
    assert machine.split_batch(128)
    assert store.record("environment")["batch_parts"] == 2
    assert how_to_train(Config(), store, network, SHAPE, CPU)[1].batch_parts == 2


def test_a_batch_too_large_to_be_timed_is_timed_in_small(network, clock, monkeypatch):
    shapes: list[tuple[int, ...]] = []

    def choose(model: nn.Module, shape: tuple[int, ...], device: object, precision: str, loss_of: object) -> tuple[Mode, dict]:
        shapes.append(shape)
        if shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return PLAIN, {}

    monkeypatch.setattr(environment, "choose_mode", choose)
    clock({2: 1.0, 1: 2.0})
    assert how_to_train(Config(), MemoryStore(), network, SHAPE, CPU)[0] == PLAIN
    assert [shape[0] for shape in shapes] == [8, 4, 2]


def test_the_machine_of_a_worker_process_pickles():
    import pickle

    assert pickle.loads(pickle.dumps(Machine(threads=1, most=2))).threads == 1
