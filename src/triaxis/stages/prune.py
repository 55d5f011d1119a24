"""Prune: cut the model at the solution, fine-tune it at full length, and make sure that it is within budget."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from triaxis.errors import InfeasibleBudgetError
from triaxis.metrics.macs import count_macs, count_params
from triaxis.progress import Moment, Tell
from triaxis.stages.collect import measured_cost, narrowed, teacher_macs
from triaxis.stages.context import Workbench
from triaxis.store.checkpoints import load_checkpoint, load_into, save_checkpoint
from triaxis.training.evaluate import evaluate
from triaxis.values import Budget, PrunePlan, Solution, digest

log = logging.getLogger(__name__)


Start = tuple[PrunePlan, dict[str, torch.Tensor]]
"""A plan and the weights that go with it, in the base model's shapes: what a final cut starts from."""


@dataclass(frozen=True)
class Pruned:
    """The delivered network with its plan, its val accuracy, and what its fine-tuning cost in images x MACs."""

    model: nn.Module
    plan: PrunePlan
    val_accuracy: float
    train_macs: float


def prune(bench: Workbench, solutions: Sequence[Solution], block_order: Sequence[str]) -> tuple[Pruned, Solution]:
    """Cut at the best solution that a fresh count or measurement finds within budget, and fine-tune it.

    Args:
        bench: The data, the base model, the device.
        solutions: Candidates, best first, as the predictor sees them.
        block_order: Blocks in the order of removal.

    Raises:
        InfeasibleBudgetError: No candidate is within budget once measured.
    """
    with bench.timed("prune") as advance:
        advance(0.0, "cutting")
        solution, plan, state = _first_within_budget(bench, solutions, block_order)
        model = bench.surgeon.cut(plan, state)
        pruned = _finish(bench, plan, model, lambda part, moment: advance(part, "fine-tuning", moment))
        advance(1.0, "", Moment(event="result", val_accuracy=pruned.val_accuracy))
        bench.store.put_record("plan", plan.to_json())
    return pruned, solution


def _first_within_budget(
    bench: Workbench, solutions: Sequence[Solution], block_order: Sequence[str]
) -> tuple[Solution, PrunePlan, dict[str, torch.Tensor]]:
    """Return the first solution that measures within budget, its plan, and the base-shaped weights that the plan cuts."""
    # Candidates share few depths: their checkpoints are read once.
    start_of = functools.lru_cache(maxsize=4)(functools.partial(starting_point, bench))
    cheapest: dict[str, float] = {}
    for solution in solutions:
        start = start_of(solution.blocks)
        plan = final_plan(bench, solution, block_order, start)
        costs = measure(bench, plan, solution.budgets)
        over = [b for b in solution.budgets if b.slack(costs[b.metric]) < 0]
        if not over:
            return _with_costs(solution, costs, plan), plan, start[1]
        log.info("%s measured over budget: %s", solution.ratios, ", ".join(f"{b.metric} {costs[b.metric]:g} > {b.limit:g}" for b in over))
        for budget in over:
            cheapest[budget.metric] = min(costs[budget.metric], cheapest.get(budget.metric, float("inf")))
    shown = ", ".join(f"{metric} {cost:g}" for metric, cost in cheapest.items())
    raise InfeasibleBudgetError(
        f"The cut model must be within budget when measured, but the best of {len(solutions)} candidates took {shown}: "
        "raise the budget a little."
    )


def _with_costs(solution: Solution, costs: dict[str, float], plan: PrunePlan) -> Solution:
    return dataclasses.replace(solution, costs={**solution.costs, **costs}, ratios=plan.achieved)


def measure(bench: Workbench, plan: PrunePlan, budgets: Sequence[Budget]) -> dict[str, float]:
    """Return the costs of a plan's real cut: MACs and parameters counted, the budgets' other metrics measured."""
    model = bench.surgeon.cut(plan)
    shape = (bench.source.in_channels, plan.side_px, plan.side_px)
    costs = {"macs": float(count_macs(model, shape)), "params": float(count_params(model))}
    for budget in budgets:
        if budget.metric not in costs:
            costs[budget.metric] = measured_cost(bench, budget.metric, seconds=1.0)(model, plan.side_px)
    return costs


def final_plan(bench: Workbench, solution: Solution, block_order: Sequence[str], start: Start) -> PrunePlan:
    """Return the plan of a solution, cut further from a starting point of its depth or more."""
    parent, state = start
    count = parent.num_blocks - solution.blocks - len(parent.removed_blocks)
    following = [name for name in block_order if name not in parent.removed_blocks][: max(count, 0)]
    removed = (*parent.removed_blocks, *following)
    return narrowed(bench, removed, solution.width, solution.side_px, parent, state)


def starting_point(bench: Workbench, blocks: int) -> Start:
    """Return plan and base-shaped weights of the trial with full width and side that is nearest above in depth."""
    chain = [t for t in bench.store.trials() if t.state == "done" and t.spec.axis in ("base", "depth") and t.plan is not None]
    usable = [t for t in chain if t.plan and t.plan.num_blocks - len(t.plan.removed_blocks) >= blocks]
    best = max(usable, key=lambda t: len(t.plan.removed_blocks) if t.plan else 0, default=None)
    if best is None or best.plan is None or best.checkpoint is None:
        return bench.surgeon.identity(), bench.surgeon.base.state_dict()
    return best.plan, bench.surgeon.expand(best.plan, load_checkpoint(bench.run.path / best.checkpoint))


def _finish(bench: Workbench, plan: PrunePlan, model: nn.Module, advance: Tell) -> Pruned:
    """Fine-tune at full length, or take the weights that an earlier process finished for the same plan."""
    recipe = bench.config.finetune
    name = "final-" + digest({"plan": plan.to_json(), "recipe": recipe.to_json(), "base": bench.base_digest, "data": bench.data_digest})
    path, key = bench.run.checkpoint(name), f"final:{name}"
    record = bench.store.record(key)
    if record is not None and path.exists():
        load_into(model, path)
        return Pruned(model.eval(), plan, record["val_accuracy"], record["train_macs"])
    macs = count_macs(model, (bench.source.in_channels, plan.side_px, plan.side_px))
    done = bench.finetune(model, plan, recipe, seed=bench.config.seed, name=name, advance=advance)
    found = evaluate(model, bench.splits.val, plan.side_px, bench.device)
    effort = float(done.num_images * macs) + teacher_macs(bench, [recipe])
    save_checkpoint(path, model.state_dict())
    bench.store.put_record(key, {"val_accuracy": bench.accuracy(found), "train_macs": effort})
    return Pruned(model, plan, bench.accuracy(found), effort)
