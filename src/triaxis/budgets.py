"""Budgets as their user writes them, several at once."""

from __future__ import annotations

from collections.abc import Sequence

from triaxis.errors import ConfigError
from triaxis.values import BudgetSpec


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
