"""Threads are chosen by measurement, and again when the speed falls by half; what other processes take is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from triaxis.training import machine as module
from triaxis.training.machine import (
    CpuTime,
    Machine,
    Pace,
    candidates,
    fewest_enough,
    is_out_of_memory,
    num_threads,
    share_of_others,
    time_threads,
    warn_if_busy,
)
from triaxis.training.mode import PLAIN

CPU = torch.device("cpu")
SHAPE = (2, 3, 4, 4)


@pytest.fixture(autouse=True)
def _threads_stay():
    with num_threads():
        yield


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 2))


def timed(**seconds: float) -> Callable[[Mapping[int, Callable[[], float]]], dict[int, float]]:
    """Stands for the stopwatch: known seconds on 1, 2, ... threads, given as n1, n2, ..."""
    return lambda steps: {count: seconds[f"n{count}"] for count in steps}


@pytest.mark.parametrize(("most", "tried"), [(1, (1,)), (2, (2, 1)), (3, (3, 1)), (8, (8, 4, 1)), (64, (64, 32, 1))])
def test_all_cores_half_of_them_and_one_are_tried(most, tried):
    assert candidates(most) == tried
    assert candidates(8, 6) == (8, 6, 4, 1)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [({2: 1.0, 1: 1.9}, 2), ({2: 1.0, 1: 1.05}, 1), ({2: 1.0, 1: 1.2}, 2), ({8: 1.0, 4: 1.08, 1: 3.0}, 4), ({2: 300.0, 1: 1.0}, 1)],
)
def test_the_fewest_threads_that_are_nearly_the_fastest_are_taken(seconds, chosen):
    assert fewest_enough(seconds) == chosen


def test_each_number_of_threads_is_really_set_and_nothing_else_changes():
    torch.set_num_threads(2)
    seen, model = {}, network()

    def look(steps):
        for count, step in steps.items():
            step()
            seen[count] = torch.get_num_threads()
        return dict.fromkeys(steps, 1.0)

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    time_threads(model, SHAPE, CPU, PLAIN, (3, 2, 1), look)
    assert seen == {3: 3, 2: 2, 1: 1}
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.rand(3), wanted), "dropout of the timed steps must not touch the run's random numbers"


class Watch:
    """A pace on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.falls, self.looking_takes = 0.0, [], 1.0
        self.pace = Pace(self._on_fall, clock=lambda: self.now)
        self.pace.begin()

    def _on_fall(self, share: float) -> None:
        self.now += self.looking_takes
        self.falls.append(share)

    def train(self, seconds: float, per_step: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += per_step
            self.pace.step(32)


def test_a_steady_or_slightly_slower_training_is_left_alone():
    watch = Watch()
    watch.train(30, 0.1)
    watch.train(30, 0.18)
    assert watch.falls == []


def test_a_speed_that_falls_by_half_is_noticed_within_seconds():
    watch = Watch()
    watch.train(10, 0.1)
    watch.train(6, 0.5)
    assert watch.falls == [pytest.approx(0.2, rel=0.3)]


def test_where_looking_did_not_help_it_is_not_done_over_and_over():
    watch = Watch()
    watch.train(10, 0.1)
    watch.train(300, 0.5)
    assert len(watch.falls) == 1, "the slow speed is now the one to compare with"
    watch.train(20, 2.0)
    assert len(watch.falls) == 2


def test_time_between_epochs_is_no_training():
    watch = Watch()
    watch.train(10, 0.1)
    watch.now += 60
    watch.pace.begin()
    watch.train(10, 0.1)
    assert watch.falls == []


def test_looking_again_switches_for_a_clear_gain_only(caplog):
    told: list[int] = []
    machine = Machine(threads=2, most=2, is_free=True, remember=lambda learnt: told.append(learnt.threads))
    machine.look_again(network(), SHAPE, CPU, PLAIN, 0.4, timed(n2=1.1, n1=1.0))
    assert (machine.threads, told) == (2, []) and "would not help" in caplog.text
    machine.look_again(network(), SHAPE, CPU, PLAIN, 0.01, timed(n2=100.0, n1=1.0))
    assert (machine.threads, told, torch.get_num_threads()) == (1, [1], 1)
    assert "slowed down to 1%" in caplog.text and "1 instead of 2 threads, 100.0 times as fast" in caplog.text


def test_too_little_memory_for_another_look_does_not_end_the_training():
    def full(steps: object) -> dict[int, float]:
        raise torch.OutOfMemoryError("out of memory")

    machine = Machine(threads=2, most=2, is_free=True)
    machine.look_again(network(), SHAPE, CPU, PLAIN, 0.1, full)
    assert machine.threads == 2


def test_a_batch_is_split_until_two_images_are_left_and_it_is_said(caplog):
    told: list[int] = []
    machine = Machine(remember=lambda learnt: told.append(learnt.batch_parts))
    assert machine.split_batch(9) and machine.split_batch(9) and not machine.split_batch(9)
    assert told == [2, 4]
    assert "a batch of 9 images does not fit in memory: it is trained in 2 parts" in caplog.text


def test_what_other_processes_take_is_a_share_of_the_machine():
    before = CpuTime(clock=0.0, busy=100.0, own=50.0)
    assert share_of_others(before, CpuTime(10.0, 118.0, 58.0), 2) == pytest.approx(0.5)
    assert share_of_others(before, CpuTime(10.0, 108.0, 58.0), 2) == 0.0
    assert share_of_others(before, CpuTime(0.1, 100.2, 50.0), 2) is None


@pytest.mark.parametrize(("busy", "is_said"), [(19.0, True), (12.0, False)])
def test_a_busy_machine_is_said_once(busy, is_said, caplog, monkeypatch):
    monkeypatch.setattr(module.psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(CpuTime, "now", classmethod(lambda cls: CpuTime(10.0, busy, 9.0)))
    with caplog.at_level(logging.WARNING, "triaxis"):
        warn_if_busy(CpuTime(0.0, 0.0, 0.0))
    assert ("other processes use 50 % of this machine's 2 cores" in caplog.text) == is_said


def test_the_clocks_of_the_machine_run():
    before = CpuTime.now()
    sum(i * i for i in range(300_000))
    after = CpuTime.now()
    assert after.clock > before.clock and after.own >= before.own and after.busy >= before.busy > 0


def test_errors_of_memory_are_told_from_others():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(real.value), "what the CPU's allocator says"
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
