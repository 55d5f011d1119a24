"""The training mode is chosen by rule: it decides the weights, so a small gain in speed is no reason to leave the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from triaxis.tasks import Classification
from triaxis.training.mode import CANDIDATES, PLAIN, Mode, choose_mode, words
from triaxis.training.stopwatch import TaskLoss, in_turns, training_step
from triaxis.values import Recipe

CPU = torch.device("cpu")
SHAPE = (4, 3, 8, 8)
BF16, CONTIGUOUS = Mode(precision="bf16"), Mode(memory_format="contiguous")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(512, 2))


@pytest.mark.parametrize(
    ("bf16", "contiguous", "chosen"),
    [(1.0, 1.0, PLAIN), (0.85, 0.9, PLAIN), (0.82, 0.84, BF16), (0.9, 0.5, CONTIGUOUS), (3.0, 3.0, PLAIN)],
)
def test_the_plain_mode_is_left_only_for_a_gain_beyond_20_percent(bf16: float, contiguous: float, chosen: Mode) -> None:
    times = {PLAIN: 1.0, BF16: bf16, CONTIGUOUS: contiguous}
    mode, seconds = choose_mode(network(), SHAPE, CPU, time_all=lambda steps: {mode: times[mode] for mode in steps})
    assert mode == chosen
    assert seconds == {words(mode): found for mode, found in times.items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_a_rule_and_nothing_is_timed(precision: str) -> None:
    def never(steps: object) -> dict[Mode, float]:
        raise AssertionError

    assert choose_mode(network(), SHAPE, CPU, precision, never) == (Mode(precision=precision, memory_format="channels_last"), {})


def test_every_mode_is_really_timed_and_the_model_stays_as_it_was() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, seconds = choose_mode(model, SHAPE, CPU, time_all=lambda steps: in_turns(steps, rounds=1))
    assert set(seconds) == {words(mode) for mode in CANDIDATES} and min(seconds.values()) > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_timed_step_is_a_training_step() -> None:
    seen: list[bool] = []

    class Spy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(self.training and torch.is_grad_enabled())
            return super().forward(x)

    model = nn.Sequential(nn.Flatten(), Spy(192, 2))
    assert training_step(model, SHAPE, CPU, PLAIN)() > 0
    assert seen == [True]


class Ways:
    """Steps that take known times on a clock of their own."""

    def __init__(self, **seconds: float) -> None:
        self.now, self.calls = 0.0, []
        self.steps = {name: lambda name=name, took=took: self._step(name, took) for name, took in seconds.items()}

    def _step(self, name: str, took: float) -> float:
        self.now += took
        self.calls.append(name)
        return took


def test_ways_are_visited_in_turns() -> None:
    ways = Ways(a=0.3, b=0.4)
    assert in_turns(ways.steps, rounds=3, clock=lambda: ways.now) == {"a": 0.3, "b": 0.4}
    assert ways.calls == ["a", "b"] * 4, "once to warm up, and three rounds"


def test_a_hopeless_way_is_visited_once_and_a_slow_machine_is_not_kept_waiting() -> None:
    ways = Ways(slow=3.0, fast=0.3)
    found = in_turns(ways.steps, rounds=5, clock=lambda: ways.now)
    assert found == {"slow": 3.0, "fast": 0.3}
    assert ways.calls.count("slow") == 2
    for a, calls in ((9.0, ["a", "b"]), (4.0, ["a", "b"] * 2)):
        ways = Ways(a=a, b=2.0)
        assert in_turns(ways.steps, rounds=5, limit_s=10.0, clock=lambda ways=ways: ways.now) == {"a": a, "b": 2.0}
        assert ways.calls == calls


def test_the_first_of_short_steps_does_not_count() -> None:
    times = iter([9.0, 0.2, 0.04, 0.05, 0.04])
    assert in_turns({"a": lambda: next(times)}, rounds=1, clock=lambda: 0.0) == {"a": 0.04}


def test_a_model_that_computes_its_own_loss_is_timed_with_targets() -> None:
    class OwnLoss(nn.Linear):
        def forward(self, x: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
            logits = super().forward(x.flatten(1))
            assert targets is not None or not self.training, "targets must be given in training mode"
            return logits if targets is None else nn.functional.cross_entropy(logits, targets)

    class OwnTask(Classification):
        def forward(self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
            return model(images, targets)

        def loss(self, output: torch.Tensor, targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
            return output

    model, loss = OwnLoss(192, 2), TaskLoss(OwnTask(), torch.tensor([0, 1, 1]))
    assert training_step(model, SHAPE, CPU, PLAIN, loss)() > 0
    with pytest.raises(AssertionError, match="targets must be given"):
        training_step(model, SHAPE, CPU, PLAIN)()
