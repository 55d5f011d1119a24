"""Budgets: an upper limit on a cost, absolute or as a share of the base model's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from triaxis.errors import ConfigError
from triaxis.values.base import Value, require

Metric = Literal["macs", "params", "latency_ms", "memory_bytes"]
METRICS: tuple[Metric, ...] = ("macs", "params", "latency_ms", "memory_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Value):
    """An absolute upper limit on one metric: MACs and parameters of one image's pass, milliseconds, or bytes.

    ``slack(cost) = limit - cost``; feasible means slack >= 0. `fraction` is kept for display when the limit was asked
    for as a share of the base model's cost.
    """

    metric: Metric
    limit: float
    fraction: float | None = None

    def __post_init__(self) -> None:
        require(self.metric in METRICS, f"A budget's metric must be one of {METRICS}, got {self.metric!r}.")
        require(math.isfinite(self.limit) and self.limit > 0, f"A budget must be above 0, got {self.limit!r} {self.metric}.")

    @staticmethod
    def macs(limit: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on multiply-accumulates at batch 1, absolute or as a fraction of the base model's."""
        return BudgetSpec(metric="macs", limit=limit, fraction=fraction)

    @staticmethod
    def params(limit: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on parameters, absolute or as a fraction of the base model's."""
        return BudgetSpec(metric="params", limit=limit, fraction=fraction)

    @staticmethod
    def latency(limit_ms: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on latency at batch `profile.latency_batch`, in milliseconds or as a fraction of the base model's."""
        return BudgetSpec(metric="latency_ms", limit=limit_ms, fraction=fraction)

    @staticmethod
    def memory(limit_bytes: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on weights and peak activations, in bytes or as a fraction of the base model's."""
        return BudgetSpec(metric="memory_bytes", limit=limit_bytes, fraction=fraction)

    def slack(self, cost: float) -> float:
        """Return limit - cost; 0 or more means that the cost is within budget."""
        return self.limit - cost


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec(Value):
    """A budget as its user writes it: an absolute limit, or a fraction in (0, 1] of the base model's cost."""

    metric: Metric
    limit: float | None = None
    fraction: float | None = None

    _UNITS: ClassVar[dict[str, tuple[Metric, dict[str, float]]]] = {
        "macs": ("macs", {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}),
        "params": ("params", {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}),
        "latency": ("latency_ms", {"ms": 1, "us": 1e-3, "s": 1e3}),
        "memory": ("memory_bytes", {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}),
    }

    def __post_init__(self) -> None:
        require(self.metric in METRICS, f"A budget's metric must be one of {METRICS}, got {self.metric!r}.")
        require((self.limit is None) != (self.fraction is None), "A budget must have either a limit or a fraction.")
        if self.fraction is not None:
            require(
                0 < self.fraction <= 1, f"A budget must be above 0 % and at most 100 % of the base model, got {100 * self.fraction:g} %."
            )
        if self.limit is not None:
            require(math.isfinite(self.limit) and self.limit > 0, f"A budget must be above 0, got {self.limit!r} {self.metric}.")

    @classmethod
    def parse(cls, text: str) -> BudgetSpec:
        """Read ``macs=50%``, ``macs=12M``, ``params=50%``, ``latency=3ms`` or ``memory=64MB``.

        Raises:
            ConfigError: The text is none of these.
        """
        name, equals, amount = text.strip().partition("=")
        name, amount = name.strip().lower(), amount.strip()
        if not equals or name not in cls._UNITS:
            raise ConfigError(
                f"A budget must read METRIC=AMOUNT with METRIC one of {', '.join(cls._UNITS)} (for example macs=50%), got {text!r}."
            )
        metric, units = cls._UNITS[name]
        digits = amount.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
        unit = amount[len(digits) :].strip().lower()
        try:
            number = float(digits)
        except ValueError:
            number = math.nan
        if unit == "%" and math.isfinite(number):
            return cls(metric=metric, fraction=number / 100)
        if unit not in units or not math.isfinite(number):
            shown = ", ".join(repr(u) for u in units if u)
            raise ConfigError(f"The amount of a {name} budget must be a number with '%' or one of the units {shown}, got {amount!r}.")
        return cls(metric=metric, limit=number * units[unit])

    def resolve(self, base_cost: float) -> Budget:
        """Return the absolute budget, given the base model's cost in the same metric."""
        if self.fraction is not None:
            return Budget(metric=self.metric, limit=self.fraction * base_cost, fraction=self.fraction)
        assert self.limit is not None
        return Budget(metric=self.metric, limit=self.limit, fraction=self.limit / base_cost if base_cost else None)


def parse_budgets(texts: Sequence[str]) -> tuple[BudgetSpec, ...]:
    """Read budgets such as ``macs=50%`` that hold together, at most one for each metric.

    Raises:
        ConfigError: A text is no budget, or two budgets are on one metric.
    """
    specs = tuple(BudgetSpec.parse(text) for text in texts)
    metrics = [spec.metric for spec in specs]
    if repeated := sorted({metric for metric in metrics if metrics.count(metric) > 1}):
        raise ConfigError(f"There must be at most one budget for each metric, got several for {', '.join(repeated)}.")
    return specs
