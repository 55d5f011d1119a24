"""A cut is measured beside the base model, in turns."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from triaxis.maths.interval import median_interval
from triaxis.metrics.gauge import ROUNDS, Measurement, in_turns
from triaxis.stages.choose import side_of


def test_both_are_read_in_turns() -> None:
    heard: list[str] = []
    found = in_turns(lambda: heard.append("base") or 2.0, lambda: heard.append("cut") or 1.0, seconds=0.0)  # type: ignore[func-returns-value]
    assert [name for name, _ in itertools.groupby(heard)] == ["base", "cut"] * ROUNDS
    assert (found.ratio, found.low, found.high, found.rounds) == (0.5, 0.5, 0.5, ROUNDS)


def test_a_machine_that_slows_down_does_not_change_the_ratio() -> None:
    slowness = itertools.count(1.0, 0.001)
    found = in_turns(lambda: 4.0 * next(slowness), lambda: 2.0 * next(slowness), seconds=0.0)
    assert found.ratio == pytest.approx(0.5, rel=0.01)


def test_it_goes_on_until_the_result_is_clear_or_patience_ends() -> None:
    seen: list[Measurement] = []
    found = in_turns(lambda: 1.0, lambda: 1.0, seconds=0.0, is_clear=lambda m: seen.append(m) or len(seen) == 3)  # type: ignore[func-returns-value]
    assert found.rounds == 3 * ROUNDS
    assert in_turns(lambda: 1.0, lambda: 1.0, seconds=0.0, is_clear=lambda m: False, patience=2).rounds == 2 * ROUNDS


def test_readings_are_limited() -> None:
    calls: list[int] = []
    in_turns(lambda: calls.append(1) or 1.0, lambda: 1.0, seconds=60.0, max_readings=27)  # type: ignore[func-returns-value]
    assert len(calls) == ROUNDS * (1 + 27 // ROUNDS)


def drawn(generator: random.Random) -> Iterator[float]:
    while True:
        yield generator.lognormvariate(0.0, 0.3)


@pytest.mark.parametrize("num", [5, 9, 20, 36])
def test_the_interval_of_a_median_holds_it_as_often_as_it_says(num: int) -> None:
    generator = random.Random(num)
    values = drawn(generator)
    hits = 0
    for _ in range(2000):
        low, high = median_interval(list(itertools.islice(values, num)))
        hits += low <= 1.0 <= high
    assert 0.88 <= hits / 2000 <= 0.99


def test_the_side_of_a_limit_is_told_only_beyond_doubt() -> None:
    def found(low: float, ratio: float, high: float) -> Measurement:
        return Measurement(ratio=ratio, low=low, high=high, base=1.0, cost=ratio)

    assert side_of(found(0.40, 0.45, 0.50), 0.5) == "within"
    assert side_of(found(0.51, 0.55, 0.60), 0.5) == "over"
    assert side_of(found(0.45, 0.49, 0.53), 0.5) == "unclear"
    assert side_of(found(0.45, 0.51, 0.53), 0.5) == "over"
