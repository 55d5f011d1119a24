"""The arms: each turns the same base model into a network within the budget. None looks at val or test."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from torch import nn

from rivals.cuts import Cut, OutOfReachError, Start, cost_fraction, dearest_within, side_plan
from rivals.training import Case, reinitialise, train
from rivals.width import CRITERIA, STEPS, prune_width, sparse_regularisation
from triaxis.errors import ConfigError, InfeasibleBudgetError
from triaxis.maths.frontier import COMPOUND, EQUAL_SPLIT, along_path
from triaxis.maths.lattice import Lattice, Levels
from triaxis.maths.solve import candidates
from triaxis.stages.choose import final_plan, starting_point
from triaxis.stages.context import Opened
from triaxis.stages.fit import read_predictor
from triaxis.stages.solve import read_cost_table, solve_run
from triaxis.values import Budget, CostTable, PrunePlan

SPARSE_SHARE = 0.5
"""Share of the group-norm pruner's effort that is sparse training before the cut, as in its authors' recipe."""

NUM_CANDIDATES = 40
SMALLEST_SIDE_PX = 8
PATH_STEPS = 150
WIDTH_STEPS = 64

Maker = Callable[[Case], Start]


def triaxis(case: Case) -> Start:
    """Solve on the run's predictor, and take the best cut that measures within the budget."""
    opened, store = case.opened, case.opened.run.store
    table, order = read_cost_table(store), store.record("block_order")
    best = solve_run(store, [case.budget])
    more = candidates(read_predictor(store)[0], table, best.budgets, num=NUM_CANDIDATES)
    measure, found = cost_fraction(opened, case.budget), []
    for solution in (best, *(s for s in more if s.ratios != best.ratios)):
        start = starting_point(opened.run, opened.base, solution.blocks)
        plan = final_plan(*opened, solution, order, start)
        model = opened.base.surgeon.cut(plan, start[1])
        # The dearer of two readings: of a latency, one lucky reading is not enough.
        found.append(max(measure(model, plan.side_px) for _ in range(2)))
        if found[-1] <= (case.budget.fraction or 0.0):
            notes = {"predicted_accuracy": solution.predicted_accuracy, "interval": list(solution.interval), "status": solution.status}
            return Start(Cut(plan.side_px, plan), model, notes=notes)
    raise OutOfReachError(min(found))


def width(case: Case) -> Start:
    """Bisect torch-pruning's ratio; its group-norm pruner first trains the uncut network with its regularisation."""
    opened, criterion = case.opened, CRITERIA[case.method]
    base, spent = _sparse_base(case) if criterion.is_sparse else (opened.base.surgeon.base, 0.0)

    def make(step: int) -> Start:
        model, history = prune_width(base, criterion, step / STEPS, opened.base.input_shape, opened.base.source.num_classes)
        return Start(Cut(opened.base.side_px, history=history), model, spent)

    return dearest_within(opened, case.budget, make, STEPS)


def own_width(case: Case) -> Start:
    """Cut triaxis's channel groups alone, the same ratio in each: for networks that torch-pruning does not take."""
    opened = case.opened
    importance = opened.run.config.width.importance

    def make(step: int) -> Start:
        return _planned(opened, opened.base.surgeon.plan(width=1 - step / WIDTH_STEPS, importance=importance))

    return dearest_within(opened, case.budget, make, WIDTH_STEPS)


def _sparse_base(case: Case) -> tuple[nn.Module, float]:
    """Return the uncut network after sparse training for whole epochs (none where the budget pays for less than half of one)."""
    opened = case.opened
    model = opened.base.surgeon.cut(opened.base.surgeon.identity())
    epochs = int(SPARSE_SHARE * case.effort / (case.images_per_epoch * case.base_record["macs"]) + 0.5)
    if epochs == 0:
        return model, 0.0
    # Its authors train without weight decay while the regularisation acts.
    recipe = dataclasses.replace(opened.run.config.finetune, epochs=epochs, weight_decay=0.0)
    with sparse_regularisation(model, CRITERIA[case.method], opened.base.input_shape, opened.base.source.num_classes):
        done = train(case, model, recipe, opened.base.side_px, "sparse")
    return model.cpu(), float(done.num_images * case.base_record["macs"])


def depth(case: Case) -> Start:
    """Remove blocks in the order in which the base model's loss suffers least."""
    opened, order = case.opened, case.opened.run.store.record("first_block_order")

    def make(count: int) -> Start:
        return _planned(opened, opened.base.surgeon.plan(removed_blocks=tuple(order[:count])))

    return dearest_within(opened, case.budget, make, len(order) + 1)


def resolution(case: Case) -> Start:
    """Feed smaller pictures, down to 8 px; a network that must be changed for a side is fed those that the run's plans offer."""
    opened, surgeon = case.opened, case.opened.base.surgeon
    every = range(opened.base.side_px, SMALLEST_SIDE_PX - 1, -1)
    sides = [side for side in every if side in surgeon.sides_px() or not surgeon.needs_resize(side)]
    return dearest_within(opened, case.budget, lambda i: _planned(opened, side_plan(opened.base, sides[i])), len(sides))


def equal_split(case: Case) -> Start:
    """Cut to d = T^(1/3), w = r = T^(1/6): each axis gives the same share of the budget."""
    return _along(case, EQUAL_SPLIT)


def compound(case: Case) -> Start:
    """Cut by EfficientNet's compound ratios run backwards."""
    return _along(case, COMPOUND)


def _along(case: Case, exponents: Sequence[float]) -> Start:
    """Take the dearest cut within the budget among those nearest to a path through the lattice; blocks go as in `depth`."""
    opened, store = case.opened, case.opened.run.store
    table, order = CostTable.from_json(store.record("first_cost_table")), store.record("first_block_order")
    path = path_levels(table, exponents)

    def make(step: int) -> Start:
        blocks, width, side_px = Lattice(table).place(path[step])
        plan = opened.base.surgeon.plan(
            removed_blocks=tuple(order[: table.blocks[0] - blocks]),
            width=width,
            side_px=side_px,
            importance=opened.run.config.width.importance,
        )
        return _planned(opened, plan)

    return dearest_within(opened, case.budget, make, len(path))


def path_levels(table: CostTable, exponents: Sequence[float]) -> list[Levels]:
    """Return the lattice levels nearest to the path x_a = s^exponents[a], by falling MACs."""
    base = table.base_cost("macs")
    found = []
    for step in range(PATH_STEPS):
        with contextlib.suppress(InfeasibleBudgetError):
            found.append(along_path(table, Budget(metric="macs", limit=base * (1 - step / PATH_STEPS)), exponents))
    return list(dict.fromkeys(found))


def _planned(opened: Opened, plan: PrunePlan) -> Start:
    cut = Cut(plan.side_px, plan)
    return Start(cut, cut.apply(opened.base))


def scratch(case: Case) -> Start:
    """Train triaxis's final shape anew for as many epochs as base training, collection and fine-tuning took together."""
    config = case.opened.run.config
    collected = sum(trial.spec.recipe.epochs for trial in case.opened.run.store.trials())
    return _scratch(case, config.base.epochs + collected + config.finetune.epochs)


def scratch_same_macs(case: Case) -> Start:
    """Train triaxis's final shape anew with as many images x MACs as base training, collection and fine-tuning took together."""
    collected = case.opened.run.store.record("collection")["train_macs"]
    macs = case.record("triaxis").get("macs", case.base_record["macs"])
    return _scratch(case, case.epochs(case.base_record["train_macs"] + collected + case.effort, macs))


def _scratch(case: Case, epochs: int) -> Start:
    """Use the base recipe, with the distillation and averaging that the other arms have."""
    opened, record = case.opened, case.record("triaxis")
    if "cut" not in record:
        raise ConfigError(f"The arm {case.arm} trains triaxis's shape, but triaxis has none at {case.budget_text}: add triaxis to --arms.")
    cut = Cut.from_plain(record["cut"])
    model = cut.apply(opened.base)
    reinitialise(model, opened.run.config.seed)
    tuned = opened.run.config.finetune
    recipe = dataclasses.replace(
        opened.run.config.base, epochs=epochs, distill=tuned.distill, temperature=tuned.temperature, average_last=tuned.average_last
    )
    return Start(cut, model, recipe=recipe)


MAKERS: dict[str, Maker] = {
    "triaxis": triaxis,
    **dict.fromkeys(CRITERIA, width),
    "width": own_width,
    "depth": depth,
    "resolution": resolution,
    "equal_split": equal_split,
    "compound": compound,
    "scratch": scratch,
    "scratch_same_macs": scratch_same_macs,
}
