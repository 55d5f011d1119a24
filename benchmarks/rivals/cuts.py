"""A cut network: how it is made again from the base model, and the search for the dearest one within a budget."""

from __future__ import annotations

import bisect
import copy
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from rivals.speed import readings, relative_latency
from rivals.width import replay
from triaxis.errors import InfeasibleBudgetError
from triaxis.metrics.macs import count_macs
from triaxis.stages.context import Base, Opened
from triaxis.values import BudgetSpec, PrunePlan, Recipe

CostFraction = Callable[[nn.Module, int], float]
"""Cost of a network at a side in pixels, as a fraction of the base model's."""


class OutOfReachError(InfeasibleBudgetError):
    """An arm cannot be cut down to the budget; `smallest` is the smallest fraction of the base model's cost it can reach."""

    def __init__(self, smallest: float) -> None:
        message = f"The budget must be within the arm's reach, but its smallest cut costs {smallest:.1%} of the base model."
        super().__init__(message, smallest=smallest)


@dataclass(frozen=True)
class Cut:
    """What was cut: a triaxis plan, or the history of a torch-pruning pruner; and the side in pixels."""

    side_px: int
    plan: PrunePlan | None = None
    history: tuple[Any, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"side_px": self.side_px, "plan": self.plan.to_json() if self.plan else None, "history": list(self.history)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Cut:
        """Return the cut that `to_plain` wrote."""
        plan = PrunePlan.from_json(plain["plan"]) if plain["plan"] else None
        return cls(side_px=plain["side_px"], plan=plan, history=tuple(plain["history"]))

    def apply(self, base: Base) -> nn.Module:
        """Return the base model cut so, on the CPU; its weights are still to be loaded."""
        if self.history:
            return replay(base.surgeon.base, self.history, base.input_shape, base.source.num_classes)
        is_cut = self.plan is not None and (self.plan.removed_blocks or self.plan.channels or base.surgeon.needs_resize(self.side_px))
        if self.plan is None or not is_cut:
            # A side alone is cut by feeding smaller pictures; it may be below the sides that the run's plans offer.
            return copy.deepcopy(base.surgeon.base)
        return base.surgeon.cut(self.plan)


@dataclass(frozen=True)
class Start:
    """A cut network before its fine-tuning.

    `spent` is the effort (images x MACs) that went into the cut, and counts as fine-tuning; `recipe` is set where it is not
    the run's own; `notes` go into the record.
    """

    cut: Cut
    model: nn.Module
    spent: float = 0.0
    recipe: Recipe | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def ratios(base: Base, cut: Cut, model: nn.Module) -> dict[str, float]:
    """Return the achieved keep ratios; those of torch-pruning's cuts compare the convolutions' output channels."""
    if cut.plan is not None:
        return dict(zip(("depth", "width", "resolution"), cut.plan.achieved.as_tuple(), strict=True))
    channels = [sum(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)) for net in (model, base.surgeon.base)]
    return {"depth": 1.0, "width": channels[0] / channels[1], "resolution": cut.side_px / base.side_px}


def side_plan(base: Base, side_px: int) -> PrunePlan:
    """Return the plan that changes the side alone, also below the sides on the run's lattice."""
    return dataclasses.replace(base.surgeon.identity(), side_px=side_px)


def cost_fraction(opened: Opened, budget: BudgetSpec) -> CostFraction:
    """Return what measures a network in the budget's metric: MACs are counted, latency is timed in turns with the base model."""
    channels = opened.base.source.in_channels
    base_macs = count_macs(opened.base.surgeon.base, opened.base.input_shape)

    def macs(model: nn.Module, side_px: int) -> float:
        return count_macs(model, (channels, side_px, side_px)) / base_macs

    def latency(model: nn.Module, side_px: int) -> float:
        profile = opened.run.config.profile
        batches = (profile.latency_batch,)
        pair = [
            readings(net, (channels, side, side), profile.runtime, batches, opened.trainer.device)[profile.latency_batch]
            for net, side in ((opened.base.surgeon.base, opened.base.side_px), (model, side_px))
        ]
        return relative_latency(*pair)

    return macs if budget.metric == "macs" else latency


def dearest_within(opened: Opened, budget: BudgetSpec, make: Callable[[int], Start], num: int) -> Start:
    """Return the dearest of `num` cuts within the budget, by bisection.

    Args:
        opened: The run: base model, device.
        budget: A fraction of the base model's cost.
        make: Gives the cuts 0 .. num-1, in the order of falling cost.
        num: Number of cuts.

    Raises:
        OutOfReachError: Even the last cut is over budget.
    """
    measure, limit = cost_fraction(opened, budget), budget.fraction or 0.0
    at = functools.cache(lambda i: measure((start := make(i)).model, start.cut.side_px))
    chosen = bisect.bisect_left(range(num), True, key=lambda i: at(i) <= limit)
    while chosen < num:
        start = make(chosen)
        # Measured once more: of a latency, one lucky reading is not enough.
        if measure(start.model, start.cut.side_px) <= limit:
            return start
        chosen += 1
    raise OutOfReachError(at(num - 1))
