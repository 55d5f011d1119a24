"""Each second belongs to one part."""

from __future__ import annotations

import pytest

from triaxis.process import walltime
from triaxis.process.walltime import added, ledger, part


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch):
    """A clock that stands still between calls of the function that this gives."""
    now = [0.0]
    monkeypatch.setattr(walltime.time, "perf_counter", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_a_part_within_a_part_counts_once(tick) -> None:
    @part("teacher")
    def look() -> None:
        tick(3)

    @part("training")
    def train() -> None:
        tick(10)
        look()
        look()
        tick(1)

    with ledger() as spent:
        train()
        tick(100)
        look()
    assert spent == {"training": 11, "teacher": 9}


def test_a_part_that_raises_is_counted(tick) -> None:
    @part("training")
    def fail() -> None:
        tick(2)
        raise ValueError("a reason")

    with ledger() as spent:
        with pytest.raises(ValueError, match="a reason"):
            fail()
        fine = part("cutting")(lambda: tick(1))
        fine()
    assert spent == {"training": 2, "cutting": 1}


def test_a_ledger_within_a_ledger_keeps_its_parts(tick) -> None:
    work = part("training")(lambda: tick(1))
    with ledger() as outer:
        work()
        with ledger() as inner:
            work()
            work()
    assert (outer, inner) == ({"training": 1}, {"training": 2})


def test_without_a_ledger_nothing_is_changed() -> None:
    @part("training")
    def double(number: int, *, times: int = 2) -> int:
        """Say it twice."""
        return times * number

    assert double(4) == 8 and double(4, times=3) == 12
    assert double.__name__ == "double" and double.__doc__ == "Say it twice."


def test_sums_come_in_the_order_in_which_parts_are_shown() -> None:
    total = added({"training": 1.0, "own": 2.0}, {"teacher": 0.5, "training": 2.0})
    assert list(total.items()) == [("teacher", 0.5), ("training", 3.0), ("own", 2.0)]
