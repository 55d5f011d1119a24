"""Measure a cut beside the base model, in turns, so that a machine that drifts or is busy slows both alike.

Notation:
    b_n, c_n   medians of the base model's and the cut's readings in round n
    q          the cut's cost over the base model's: the median of c_n / b_n
    C          the cut's cost in the metric's unit: q x the base model's reference cost
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from triaxis.errors import DeviceError
from triaxis.maths.interval import median_interval
from triaxis.metrics.base import Metric, Reading, Shape
from triaxis.metrics.latency import half_spread, read_for
from triaxis.store.base import Store
from triaxis.values import Value, digest

MAGNITUDE = 10.0
"""Costs of one network this many times apart are not believed; nor is a cut that costs this many times what the base model does."""

ROUNDS = 9
"""Rounds of one measurement; each reads the base model, then the cut."""

SLOW_ROUNDS = 5
"""Rounds of a metric of which each reading is slow: the fewest that give a 90 % interval of a median."""

Rounds = list[tuple[list[float], list[float]]]
"""The readings of the base model and of the cut in each round."""


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
    rounds: Rounds = []
    while True:
        rounds += [(_burst(base, share, most), _burst(cut, share, most)) for _ in range(ROUNDS)]
        found = _measurement(rounds)
        if is_clear(found) or len(rounds) >= patience * ROUNDS:
            return found


def in_slow_turns(
    base: Reading,
    cut: Reading,
    *,
    known: Rounds,
    keep: Callable[[Rounds], None] = lambda rounds: None,
    is_clear: Callable[[Measurement], bool] = lambda found: True,
    patience: int = 4,
) -> Measurement:
    """Read both in turns, once in each round, and go on from rounds that an earlier call or process took.

    Args:
        base: Reads the base model.
        cut: Reads the cut.
        known: Earlier rounds of the same pair.
        keep: Told all rounds after each new one, so that a device that goes away costs no more than one.
        is_clear: As for `in_turns`.
        patience: Rounds at most, as a multiple of `SLOW_ROUNDS`.
    """
    rounds = list(known)
    while True:
        while not rounds or len(rounds) % SLOW_ROUNDS:
            rounds.append(([base()], [cut()]))
            keep(rounds)
        found = _measurement(rounds)
        if is_clear(found) or len(rounds) >= patience * SLOW_ROUNDS:
            return found
        rounds.append(([base()], [cut()]))
        keep(rounds)


def _burst(reading: Reading, seconds: float, most: int) -> list[float]:
    reading()  # what ran in between has cooled the caches
    return read_for(reading, seconds=seconds, min_runs=2, max_runs=most)


def _measurement(rounds: Rounds) -> Measurement:
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
    """Measures cuts of one base model in one metric.

    Args:
        metric: Counts or measures; one with `is_slow` takes few readings, which are kept in the store.
        base: The base model.
        input_shape: (C, S, S) of the base model's images.
        store: Keeps the readings of a slow metric, so that none is taken twice.
    """

    def __init__(self, metric: Metric, base: nn.Module, input_shape: Shape, store: Store | None = None) -> None:
        self.metric = metric
        self._base, self._shape, self._store = base, input_shape, store
        self._reading: Reading | None = None

    @property
    def is_slow(self) -> bool:
        """Whether each reading takes long, as one process on another device does."""
        return getattr(self.metric, "is_slow", False)

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
        anew: bool = False,
    ) -> Measurement:
        """Return a cut's cost beside the base model's.

        Args:
            model: The cut network; it is not changed.
            input_shape: (C, S, S) of its images.
            seconds: Time to spend where the metric is not counted.
            max_readings: As for `in_turns`.
            is_clear: As for `in_turns`.
            anew: Forget the readings that the store keeps of this cut.

        Raises:
            RefusedModelError: The runtime or the device refuses the cut.
            DeviceError: The device does not answer, or answers what cannot be.
        """
        if self.is_slow:
            return self._measure_slowly(model, input_shape, is_clear, anew)
        reading = self.metric.prepare(model, input_shape)
        if not self.metric.is_counted:
            return in_turns(self.base_reading, reading, seconds=seconds, max_readings=max_readings, is_clear=is_clear)
        base, cost = self.base_reading(), reading()
        return Measurement(ratio=cost / base, low=cost / base, high=cost / base, base=base, cost=cost)

    def sample(self, model: nn.Module, input_shape: Shape, *, seconds: float) -> Measurement:
        """Measure a cut for `seconds`; one that was measured so before, on this machine and as many threads, is not measured again.

        Raises:
            RefusedModelError: The runtime or the device refuses the cut.
            DeviceError: The device does not answer, or answers what cannot be.
        """
        if self.is_slow or self.metric.is_counted:
            return self.measure(model, input_shape, seconds=seconds)
        key = self._key("sample", model, input_shape, seconds=seconds, machine=platform.node(), threads=torch.get_num_threads())
        known = self._recall(key)
        if known is not None:
            return Measurement.from_json(known)
        found = self.measure(model, input_shape, seconds=seconds)
        self._keep(key, found.to_json())
        return found

    def _key(self, kind: str, model: nn.Module, shape: Shape, **how: float | str) -> str:
        """Return the key under which the store keeps what was read of a cut beside the base model."""
        identity = {"metric": self._identity, "base": built(self._base, self._shape), "cut": built(model, shape)}
        return f"{kind}:{digest({**identity, **how})}"

    @property
    def _identity(self) -> str:
        return getattr(self.metric, "identity", self.metric.key)

    def _measure_slowly(self, model: nn.Module, shape: Shape, is_clear: Callable[[Measurement], bool], anew: bool) -> Measurement:
        key = self._key("readings", model, shape)
        known = [(list(base), list(cut)) for base, cut in (self._recall(key) or [])] if not anew else []
        prepared: list[Reading] = []

        def cut() -> float:
            # Exported only when it is read at all.
            if not prepared:
                prepared.append(self.metric.prepare(model, shape))
            return prepared[0]()

        found = in_slow_turns(
            lambda: self.base_reading(),
            cut,
            known=known,
            keep=lambda rounds: self._keep(key, [list(pair) for pair in rounds]),
            is_clear=is_clear,
        )
        self._require_likely(found, f"base:{self._identity}")
        return found

    def _require_likely(self, found: Measurement, key: str) -> None:
        """Compare with what the base model cost before, and a cut with the base model; a change of unit shows here.

        Raises:
            DeviceError: One is another order of magnitude.
        """
        name = f"readings:{digest({'metric': key})}"
        before = self._recall(name)
        advice = (
            "look whether the command still prints milliseconds, and whether the device is busy or hot; then run the same command again."
        )
        if before and not 1 / MAGNITUDE < found.base / before < MAGNITUDE:
            raise DeviceError(
                f"{self.metric.key} of the base model must be of the order that it was, got {found.base:g} after {before:g}: {advice}"
            )
        if found.cost > MAGNITUDE * found.base:
            raise DeviceError(
                f"{self.metric.key} of a cut must be of the base model's order or below, got {found.cost:g} beside {found.base:g}: {advice}"
            )
        self._keep(name, before or found.base)

    def _recall(self, key: str) -> Any:
        return self._store.record(key) if self._store else None

    def _keep(self, key: str, plain: Any) -> None:
        if self._store:
            self._store.put_record(key, plain)


def built(model: nn.Module, input_shape: Shape) -> str:
    """Return how a network is built, without its numbers: two that are built alike take the same time."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return digest({"modules": repr(model), "shapes": shapes, "input": list(input_shape)})
