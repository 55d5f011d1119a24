"""Budgets: an upper limit on a cost, absolute or as a share of the base model's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from triaxis.errors import ConfigError
from triaxis.values.base import Value, require
from triaxis.values.metric import METRICS, MetricSpec, metric_named, metric_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Value):
    """An absolute upper limit on one metric: MACs and parameters of one image's pass, milliseconds, or bytes.

    ``slack(cost) = limit - cost``; feasible means slack >= 0. `fraction` is kept for display when the limit was asked
    for as a share of the base model's cost.
    """

    metric: str
    limit: float
    fraction: float | None = None

    def __post_init__(self) -> None:
        metric_spec(self.metric)
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

    metric: str
    limit: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        metric_spec(self.metric)
        require((self.limit is None) != (self.fraction is None), "A budget must have either a limit or a fraction.")
        if self.fraction is not None:
            require(
                0 < self.fraction <= 1, f"A budget must be above 0 % and at most 100 % of the base model, got {100 * self.fraction:g} %."
            )
        if self.limit is not None:
            require(math.isfinite(self.limit) and self.limit > 0, f"A budget must be above 0, got {self.limit!r} {self.metric}.")

    @classmethod
    def parse(cls, text: str, keys: Iterable[str] = METRICS) -> BudgetSpec:
        """Read ``macs=50%``, ``macs=12M``, ``params=50%``, ``latency=3ms``, ``latency@onnxruntime=3ms`` or ``memory=64MB``.

        Args:
            text: What the user wrote.
            keys: Metrics that there are, by key.

        Raises:
            ConfigError: The text is none of these.
        """
        name, equals, amount = (part.strip() for part in text.partition("="))
        spec = metric_named(name, keys) if equals else None
        if spec is None:
            names = ", ".join(metric_spec(key).name for key in keys)
            raise ConfigError(f"A budget must read METRIC=AMOUNT with METRIC one of {names} (for example macs=50%), got {text!r}.")
        number, unit = _amount(amount, spec)
        return cls(metric=spec.key, fraction=number / 100) if unit == "%" else cls(metric=spec.key, limit=number * spec.units[unit])

    def __str__(self) -> str:
        spec = metric_spec(self.metric)
        if self.fraction is not None:
            return f"{spec.name}={100 * self.fraction!r}%"
        return f"{spec.name}={self.limit!r}{spec.unit}"

    def resolve(self, base_cost: float) -> Budget:
        """Return the absolute budget, given the base model's cost in the same metric."""
        if self.fraction is not None:
            return Budget(metric=self.metric, limit=self.fraction * base_cost, fraction=self.fraction)
        assert self.limit is not None
        return Budget(metric=self.metric, limit=self.limit, fraction=self.limit / base_cost if base_cost else None)


def _amount(text: str, spec: MetricSpec) -> tuple[float, str]:
    """Return the number and the unit of ``50%`` or ``3ms``; the unit is ``%`` or one of the metric's."""
    digits = text.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text[len(digits) :].strip().lower()
    try:
        number = float(digits)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (unit != "%" and unit not in spec.units):
        shown = ", ".join(repr(known) for known in spec.units if known)
        raise ConfigError(f"The amount of a {spec.name} budget must be a number with '%' or one of the units {shown}, got {text!r}.")
    return number, unit


def parse_budgets(texts: Sequence[str], keys: Iterable[str] = METRICS) -> tuple[BudgetSpec, ...]:
    """Read budgets such as ``macs=50%`` that hold together, at most one for each metric.

    Raises:
        ConfigError: A text is no budget, or two budgets are on one metric.
    """
    specs = tuple(BudgetSpec.parse(text, tuple(keys)) for text in texts)
    metrics = [spec.metric for spec in specs]
    if repeated := sorted({metric for metric in metrics if metrics.count(metric) > 1}):
        raise ConfigError(f"There must be at most one budget for each metric, got several for {', '.join(repeated)}.")
    return specs
