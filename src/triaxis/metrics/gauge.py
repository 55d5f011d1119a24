"""Measure a cut beside the base model, in turns, so that a machine that drifts or is busy slows both alike.

Notation:
    b_n, c_n   medians of the base model's and the cut's readings in round n
    q          the cut's cost over the base model's: the median of c_n / b_n
    C          the cut's cost in the metric's unit: q x the base model's reference cost
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from triaxis.maths.interval import median_interval
from triaxis.metrics.base import Metric, Reading, Shape
from triaxis.metrics.latency import half_spread, read_for
from triaxis.values import Value

ROUNDS = 9
"""Rounds of one measurement; each reads the base model, then the cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Value):
    """A cut's cost over the base model's, both read in turns, with a 90 % interval; a counted metric has no spread.

    `base` and `cost` are the medians of all readings, in the metric's unit, with half the distance between their quartiles.
    """

    ratio: float
    low: float
    high: float
    base: float
    cost: float
    base_spread: float = 0.0
    cost_spread: float = 0.0
    rounds: int = 1


def in_turns(
    base: Reading,
    cut: Reading,
    *,
    seconds: float,
    max_readings: int = 1000,
    is_clear: Callable[[Measurement], bool] = lambda found: True,
    patience: float = 4.0,
) -> Measurement:
    """Read both in turns, base, cut, base, cut, ..., and go on until the result is clear.

    Args:
        base: Reads the base model.
        cut: Reads the cut.
        seconds: Time to spend on the first `ROUNDS` rounds.
        max_readings: Readings of each at most, in these rounds.
        is_clear: Told each result; more rounds follow while it says no.
        patience: Time to spend at most, as a multiple of `seconds`.
    """
    share, most = seconds / ROUNDS / 2, max(2, max_readings // ROUNDS)
    rounds: list[tuple[list[float], list[float]]] = []
    while True:
        rounds += [(_burst(base, share, most), _burst(cut, share, most)) for _ in range(ROUNDS)]
        found = _measurement(rounds)
        if is_clear(found) or len(rounds) >= patience * ROUNDS:
            return found


def _burst(reading: Reading, seconds: float, most: int) -> list[float]:
    reading()  # what ran in between has cooled the caches
    return read_for(reading, seconds=seconds, min_runs=2, max_runs=most)


def _measurement(rounds: list[tuple[list[float], list[float]]]) -> Measurement:
    ratios = [statistics.median(cut) / statistics.median(base) for base, cut in rounds]
    low, high = median_interval(ratios)
    base, cut = ([ms for part in rounds for ms in part[which]] for which in (0, 1))
    return Measurement(
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        base=statistics.median(base),
        cost=statistics.median(cut),
        base_spread=half_spread(base),
        cost_spread=half_spread(cut),
        rounds=len(rounds),
    )


class Gauge:
    """Measures cuts of one base model in one metric."""

    def __init__(self, metric: Metric, base: nn.Module, input_shape: Shape) -> None:
        self.metric = metric
        self._base, self._shape = base, input_shape
        self._reading: Reading | None = None

    @property
    def base_reading(self) -> Reading:
        """Reads the base model; prepared once."""
        if self._reading is None:
            self._reading = self.metric.prepare(self._base, self._shape)
        return self._reading

    def measure(
        self,
        model: nn.Module,
        input_shape: Shape,
        *,
        seconds: float = 1.0,
        max_readings: int = 1000,
        is_clear: Callable[[Measurement], bool] = lambda found: True,
    ) -> Measurement:
        """Return a cut's cost beside the base model's.

        Args:
            model: The cut network; it is not changed.
            input_shape: (C, S, S) of its images.
            seconds: Time to spend where the metric is not counted.
            max_readings: As for `in_turns`.
            is_clear: As for `in_turns`.
        """
        reading = self.metric.prepare(model, input_shape)
        if not self.metric.is_counted:
            return in_turns(self.base_reading, reading, seconds=seconds, max_readings=max_readings, is_clear=is_clear)
        base, cost = self.base_reading(), reading()
        return Measurement(ratio=cost / base, low=cost / base, high=cost / base, base=base, cost=cost)
