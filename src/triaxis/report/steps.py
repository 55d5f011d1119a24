"""Records -> what each budget on the frontier buys, one step of the page's slider each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from triaxis.maths.frontier import frontier
from triaxis.report import words
from triaxis.report.figures import Frontier
from triaxis.report.records import Records
from triaxis.values import CostTable, Solution, metric_spec

NUM_STEPS = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What is bought at each of evenly spaced budgets in one metric, the smallest first; `start` is the one shown at first."""

    metric: str
    solutions: tuple[Solution, ...]
    table: CostTable
    start: int

    def place(self, number: int) -> tuple[float, float]:
        """Return (cost over the base model's, predicted accuracy) of a step."""
        step = self.solutions[number]
        return step.costs[self.metric] / self.table.base_cost(self.metric), step.predicted_accuracy

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics whose cost is known for each cut, the slider's own first."""
        return tuple(dict.fromkeys((self.metric, *self.table.costs)))

    def said(self, number: int) -> dict[str, str]:
        """Return the words on one step, by the name of the field that shows them."""
        step = self.solutions[number]
        budget = step.budgets[0]
        share = math.ceil(1000 * (budget.fraction or 1.0) - 1e-6) / 10
        name, title = metric_spec(self.metric).name, metric_spec(self.metric).title
        ratios = step.ratios
        found = {
            "budget": f"{title} at most {share:.1f} % of the base model's ({words.cost(budget.limit, self.metric)})",
            "depth": f"{step.blocks} of {self.table.blocks[0]} blocks",
            "width": f"{words.percent(ratios.width, 0)} of channels",
            "resolution": f"{step.side_px} of {self.table.sides_px[0]} px",
            "accuracy": words.percent(step.predicted_accuracy),
            "interval": words.interval(step.interval),
            "command": f"triaxis prune RUN --budget {name}={share:.1f}%",
        }
        for metric in self.metrics:
            base = self.table.base_cost(metric)
            found[metric] = words.cost(step.costs[metric], metric)
            found[f"{metric} share"] = f"{words.percent(step.costs[metric] / base)} of base"
        found["spoken"] = f"{found['budget']}: {found['accuracy']} predicted"
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """Return each step as plain data: its numbers, as `triaxis frontier --json` prints them, and its words."""
        return [
            {
                "budget": step.budgets[0].limit,
                "ratios": list(step.ratios.as_tuple()),
                "blocks": step.blocks,
                "side_px": step.side_px,
                "predicted_accuracy": step.predicted_accuracy,
                "interval": list(step.interval),
                "costs": step.costs,
                "said": self.said(number),
            }
            for number, step in enumerate(self.solutions)
        ]


def budget_steps(records: Records, found: Frontier, num: int = NUM_STEPS) -> Steps:
    """Return the best cut at each of `num` budgets in the frontier's metric, from the smallest possible to the base model's."""
    table, predictor = records.cost_table, records.predictor
    assert table is not None and predictor is not None
    solutions = frontier(predictor, table, found.metric, num)
    wanted = found.budget.limit if found.budget else table.base_cost(found.metric)
    start = min(range(num), key=lambda n: abs(solutions[n].budgets[0].limit - wanted))
    return Steps(metric=found.metric, solutions=solutions, table=table, start=start)
