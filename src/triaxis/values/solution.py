"""The best cut, and what the delivered model really does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from triaxis.values.base import Value
from triaxis.values.budget import Budget
from triaxis.values.metric import metric_spec
from triaxis.values.plan import KeepRatios


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousOptimum(Value):
    """The optimum over real keep ratios, before rounding to what can be cut.

    `multiplier` is the gain in accuracy per unit of log cost; `active` names the bounds that hold with equality, such as
    ``depth=max`` or the metric of a budget; `kkt_residual` is the largest violation of the Karush-Kuhn-Tucker conditions.
    """

    ratios: KeepRatios
    predicted_accuracy: float
    multiplier: float
    active: tuple[str, ...]
    kkt_residual: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution(Value):
    """The best cut on the lattice within every budget.

    `blocks`, `width` and `side_px` are the lattice's levels to cut at (blocks kept, target width keep ratio, side);
    `ratios` what they achieve; `interval` is the 90 % prediction interval; `binding` is the metric with the least
    relative slack. `status` is "unconstrained" where no budget costs accuracy, and "extrapolated" where the budgets can
    only be met at smaller keep ratios than any trial measured.
    """

    ratios: KeepRatios
    blocks: int
    width: float
    side_px: int
    predicted_accuracy: float
    interval: tuple[float, float]
    budgets: tuple[Budget, ...]
    costs: dict[str, float]
    binding: str
    status: Literal["optimal", "unconstrained", "extrapolated"]
    continuous: ContinuousOptimum | None = None

    @property
    def slack(self) -> float:
        """Limit minus cost in the binding metric; never below 0."""
        budget = next(b for b in self.budgets if b.metric == self.binding)
        return budget.slack(self.costs[self.binding])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Value):
    """The numbers of one finished network. Accuracies in [0, 1] with 95 % intervals, latency by batch, in milliseconds per batch."""

    val_accuracy: float
    test_accuracy: float | None
    test_interval: tuple[float, float] | None
    macs: int
    params: int
    latency_ms: dict[str, float]
    latency_spread_ms: dict[str, float]
    file_bytes: int
    val_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCheck(Value):
    """One budget beside what the delivered model costs.

    `share` is its cost over the base model's, with a 90 % interval from `low` to `high` where it was measured in turns;
    `limit_share` is the budget, likewise a share. A budget is missed where the whole interval lies above it.
    """

    budget: Budget
    cost: float
    share: float
    low: float
    high: float
    limit_share: float

    @property
    def is_met(self) -> bool:
        """Whether the budget is not missed beyond doubt."""
        return self.low <= self.limit_share * (1 + 1e-9)

    def missed_sentence(self) -> str:
        """Return by how much a missed budget is missed, and what to do."""
        name = metric_spec(self.budget.metric).title
        return (
            f"The finished model misses its {name} budget: it measures {self.share:.1%} of the base model's {name} "
            f"({self.low:.1%} to {self.high:.1%}), the budget is {self.limit_share:.1%}. "
            "It is kept all the same: prune again with a smaller budget, or on a quieter machine."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Value):
    """What the delivered model really does, beside the base model and beside what was predicted.

    Intervals are 95 %; `prediction_error` is measured minus predicted val accuracy; `checks` hold the budgets, measured anew.
    """

    base: Measured
    compressed: Measured
    predicted_accuracy: float
    prediction_error: float
    num_test: int
    device: str
    threads: int
    checks: tuple[BudgetCheck, ...] = ()

    @property
    def is_within_budget(self) -> bool:
        """Whether every budget is met."""
        return all(check.is_met for check in self.checks)
