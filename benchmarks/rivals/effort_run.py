"""One seed of the effort benchmark: base model, one collection, arms of equal effort, and test when it is asked for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rivals import run
from rivals.arms import MAKERS
from rivals.cuts import Cut, OutOfReachError, Start, cost_fraction
from rivals.profiles import Profile, read_budget
from rivals.training import Case, reinitialise
from triaxis.data.images import Images, Splits
from triaxis.maths.lattice import Lattice
from triaxis.progress import Silent
from triaxis.stages.base import open_run
from triaxis.stages.collect import first_block_order
from triaxis.stages.context import Opened
from triaxis.stages.costs import cost_table, with_metrics
from triaxis.stages.effort import base_training, collected
from triaxis.stages.elastic import collect_elastic, nested_cuts, plan_at, smallest
from triaxis.stages.fit import fit_run
from triaxis.store.checkpoints import load_into
from triaxis.store.directory import RunDirectory
from triaxis.values import CostTable

SMALLEST_PART = 0.9
"""A random cut costs at least this share of the budget."""


@dataclass(frozen=True)
class Order:
    """What to run, and when to start nothing new (`time.monotonic`)."""

    pair: Profile
    source: str
    budgets: tuple[str, ...]
    efforts: tuple[float, ...]
    arms: tuple[str, ...]
    deadline: float = float("inf")
    opens_test: bool = False


@dataclass(frozen=True)
class EffortCase(Case):
    """One arm at one budget and one total effort, in shares of base training."""

    share: float = 1.0

    @property
    def key(self) -> str:
        """The arm's name in the store."""
        return f"{self.budget_text}:{self.share:g}:{self.arm}"

    @property
    def effort(self) -> float:
        """What is left for the arm's training, in images x MACs: triaxis has paid for its collection."""
        opened = self.opened
        paid = collected(opened.run) if self.method == "triaxis" else 0.0
        return self.share * base_training(opened.run, opened.data) - paid

    def record(self, arm: str) -> dict:
        """Return the record of an arm at the same budget and effort, empty if it has none."""
        return self.opened.run.store.record(f"arm:{dataclasses.replace(self, arm=arm).key}") or {}


def random_cut(case: Case) -> Start:
    """Take any cut of triaxis's lattice that uses most of the budget: the control that shows what a choice is worth."""
    run, base = case.opened.run, case.opened.base
    lattice, cuts = Lattice(CostTable.from_json(run.store.record("first_cost_table"))), nested_cuts(*case.opened)
    rows = lattice.rows_above(smallest(run))
    share = lattice.shares(case.budget.metric)[rows]
    limit, measure = case.budget.fraction or 0.0, cost_fraction(case.opened, case.budget)
    near = rows[(share <= limit) & (share >= SMALLEST_PART * limit)]
    for row in np.random.default_rng([run.config.seed, int(1000 * limit)]).permutation(near):
        plan = plan_at(cuts, lattice.table, lattice.levels(row))
        model = base.surgeon.cut(plan)
        if measure(model, plan.side_px) <= limit:
            return Start(Cut(plan.side_px, plan), model)
    raise OutOfReachError(float(share.min()))


def scratch(case: Case) -> Start:
    """Train triaxis's shape anew with the whole effort, taught by the base model as the others are."""
    record = case.record("triaxis")
    if "cut" not in record:
        raise OutOfReachError(float("inf"))
    cut = Cut.from_plain(record["cut"])
    model, config = cut.apply(case.opened.base), case.opened.run.config
    reinitialise(model, config.seed)
    epochs = case.epochs(case.effort, case.macs(model, cut.side_px))
    recipe = dataclasses.replace(config.finetune, epochs=epochs, peak_lr=config.base.peak_lr)
    return Start(cut, model, recipe=recipe)


def run_seed(order: Order, seed: int, path: Path, splits: Splits) -> bool:
    """Run what is missing of one seed in its run directory; return whether nothing is missing any more."""
    MAKERS.update({"random_cut": random_cut, "scratch": scratch})
    config, directory = order.pair.config(order.source, seed), RunDirectory(path)
    with directory.open(config) as store:
        torch.manual_seed(seed)
        opened = open_run(config, directory, store, progress=Silent(), splits=splits)
        _collect(opened, order.budgets)
        cases = [
            EffortCase(opened, order.pair, budget, arm, share) for share in order.efforts for budget in order.budgets for arm in order.arms
        ]
        for case in cases:
            if case.record(case.arm).get("state") in run.FINAL_STATES:
                continue
            if time.monotonic() >= order.deadline:
                return False
            found = run.run_arm(case)
            store.put_record(f"arm:{case.key}", {**found, "effort": case.share, "pair": order.pair.name, **_shares(opened, case)})
            print(f"effort {case.share:g}  {run.words(found)}", flush=True)
        if order.opens_test:
            _open_test(cases, splits.test.open())
    return True


def _collect(opened: Opened, budgets: Sequence[str]) -> None:
    """Collect once for all budgets, near each of which cuts are trained; then fit."""
    run, _, base, trainer = opened
    store = run.store
    if store.record("first_cost_table") is None:
        order = first_block_order(*opened)
        store.put_record("first_block_order", list(order))
        store.put_record("block_order", list(order))
        store.put_record("first_cost_table", cost_table(run, base, trainer, order).to_json())
    order, specs = tuple(store.record("block_order")), [read_budget(text) for text in budgets]
    table = CostTable.from_json(store.record("first_cost_table"))
    table = with_metrics(run, base, trainer, table, order, [spec.metric for spec in specs])
    for name in ("first_cost_table", "cost_table"):
        store.put_record(name, table.to_json())
    collect_elastic(*opened, table, [[spec] for spec in specs])
    if store.record("predictor") is None:
        fit_run(store, run.config)


def _shares(opened: Opened, case: EffortCase) -> dict[str, float | None]:
    """Return what collecting took of base training, in effort and in time; nothing for the arms that need none."""
    if case.method != "triaxis":
        return {"collection_effort": 0.0, "collection_time": 0.0}
    seconds = opened.run.store.record("seconds") or {}
    base = seconds.get("base")
    return {
        "collection_effort": collected(opened.run) / base_training(opened.run, opened.data),
        "collection_time": seconds.get("collect", 0.0) / base if base else None,
    }


def _open_test(cases: Sequence[EffortCase], test: Images) -> None:
    for case in cases:
        record, opened = case.record(case.arm), case.opened
        if record.get("state") != "done" or record.get("test_accuracy") is not None:
            continue
        cut = Cut.from_plain(record["cut"])
        model = cut.apply(opened.base)
        load_into(model, case.checkpoint("arm"))
        accuracy = opened.trainer.evaluate(model, test, cut.side_px).value
        opened.run.store.put_record(f"arm:{case.key}", {**record, "test_accuracy": accuracy})
