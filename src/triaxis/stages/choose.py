"""Choose: the cut with the best predicted accuracy that is within every budget when it is really cut and measured.

A counted cost is exact. A measured one is read beside the base model, in turns, until it is clear on which side of the budget
it lies. A cut that is over budget corrects the table of costs by what was measured, and the next best is tried: noise makes
the search longer, never void.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch

from triaxis.errors import InfeasibleBudgetError, RefusedModelError
from triaxis.maths.lattice import Lattice, Place
from triaxis.maths.solve import candidates, predict_lattice, solution_at
from triaxis.metrics.gauge import Gauge, Measurement
from triaxis.stages.context import Base, Data, Run, Trainer
from triaxis.stages.costs import gauge_of
from triaxis.stages.elastic import is_elastic, nested_cuts
from triaxis.stages.trial import narrowed
from triaxis.store.checkpoints import load_checkpoint
from triaxis.surgery.shared import NestedCuts
from triaxis.values import AccuracyPredictor, Budget, CostTable, PrunePlan, Solution, digest, done_trials, metric_spec

log = logging.getLogger(__name__)

MOST_CUTS = 40
"""Cuts that are measured before the search ends with the best of them."""

MORE_CUTS = 4
"""Cuts that are measured after one was found within the budgets, where more accuracy is promised."""

Start = tuple[PrunePlan, dict[str, torch.Tensor]]
"""A plan and the weights that go with it, in the base model's shapes: what a final cut starts from."""


@dataclass(frozen=True)
class Choice:
    """The chosen cut: what was predicted, its plan, and the base-shaped weights that the plan cuts."""

    solution: Solution
    plan: PrunePlan
    state: dict[str, torch.Tensor]


def choose(
    run: Run,
    data: Data,
    base: Base,
    trainer: Trainer,
    predictor: AccuracyPredictor,
    table: CostTable,
    budgets: Sequence[Budget],
    block_order: Sequence[str],
) -> Choice:
    """Return the best cut within every budget; chosen once, so that a run that goes on does not change its mind.

    Args:
        run: The run's configuration, store and directory.
        data: The images.
        base: The base model, and how it can be cut.
        trainer: How networks are trained and measured.
        predictor: Predicts the accuracy of each cut of the table.
        table: Costs of each cut, measured ones on a sample.
        budgets: All hold at once.
        block_order: Blocks in the order of removal.

    Raises:
        InfeasibleBudgetError: Not even the cheapest cut is within the budgets once measured.
        RefusedModelError: The runtime refuses every cut.
    """
    search = _Search(run, data, base, trainer, table, tuple(budgets), tuple(block_order))
    key = "choice:" + digest({"budgets": [b.to_json() for b in budgets], "predictor": predictor.to_json(), "order": list(block_order)})
    known = run.store.record(key)
    if known is not None:
        solution = Solution.from_json(known)
        return Choice(solution, *search.cut(solution))
    choice = search.best(predictor)
    run.store.put_record(key, choice.solution.to_json())
    return choice


@dataclass
class _Search:
    """The cuts tried so far, and what they say of the table's costs."""

    run: Run
    data: Data
    base: Base
    trainer: Trainer
    table: CostTable
    budgets: tuple[Budget, ...]
    block_order: tuple[str, ...]
    tried: dict[Place, dict[str, float]] = field(default_factory=dict)
    doubtful: list[Solution] = field(default_factory=list)
    refusal: RefusedModelError | None = None

    def __post_init__(self) -> None:
        # Candidates share few depths: their checkpoints are read once.
        self.start_of = functools.lru_cache(maxsize=4)(functools.partial(starting_point, self.run, self.base))
        self.gauge = functools.cache(functools.partial(gauge_of, self.run, self.base, self.trainer))

    @functools.cached_property
    def nested_cuts(self) -> NestedCuts:
        """The cuts that elastic training measured."""
        return nested_cuts(self.run, self.data, self.base, self.trainer)

    def best(self, predictor: AccuracyPredictor) -> Choice:
        """Measure candidates, best first, until one is within every budget."""
        while len(self.tried) < MOST_CUTS and (solution := self.candidate(predictor)) is not None:
            found, verdict = self.try_out(solution)
            if verdict == "within":
                return self.improved(predictor, found)
            if verdict == "unclear":
                self.doubtful.append(found.solution)
        if self.doubtful:
            solution = max(self.doubtful, key=lambda s: s.predicted_accuracy)
            log.warning("no cut was clearly within the budgets: the best whose median is within them is taken")
            return Choice(solution, *self.cut(solution))
        raise self._none_is_cheap_enough()

    def try_out(self, solution: Solution) -> tuple[Choice, str]:
        """Cut and measure a solution; one that the runtime refuses counts as over the budget."""
        plan, state = self.cut(solution)
        try:
            costs, verdict = self.measure(plan)
        except RefusedModelError as error:
            log.warning("%s Another cut is tried.", error)
            costs, verdict, self.refusal = {}, "over", error
        self.tried[place_of(solution)] = costs
        words = {"over": "over the", "unclear": "about at the", "within": "within the"}[verdict]
        log.info("%s measured %s budget: %s", solution.ratios, words, self._shown(costs))
        return Choice(dataclasses.replace(solution, costs={**solution.costs, **costs}, ratios=plan.achieved), plan, state), verdict

    def improved(self, predictor: AccuracyPredictor, choice: Choice) -> Choice:
        """Try the few cuts that promise more accuracy after what was measured; counted costs leave nothing to try."""
        if all(self.gauge(budget.metric).metric.is_counted for budget in self.budgets):
            return choice
        for _ in range(MORE_CUTS):
            promising = self.promising(predictor, choice.solution)
            if promising is None:
                break
            found, verdict = self.try_out(promising)
            choice = found if verdict == "within" else choice
        return choice

    def promising(self, predictor: AccuracyPredictor, chosen: Solution) -> Solution | None:
        """Return a cut that is not tried yet and predicted to be more accurate than the chosen one.

        Its next wider neighbour comes first: on some hardware an odd number of channels takes longer than a round one, and a cut
        that is slower than what looks dearer must not be delivered. Then cuts that the table held for too dear.
        """
        cuts = predict_lattice(predictor, self.table)
        i, j, k = cuts.lattice.at(place_of(chosen))
        wider = [solution_at(cuts, self.budgets, (i, j - 1, k))] if j else []
        cheaper: tuple[Solution, ...] = ()
        with suppress(InfeasibleBudgetError):  # where the cuts that were over the budget outvote the one that is within it
            cheaper = candidates(predictor, self.corrected(least=0.0), self.budgets, num=len(self.tried) + 1)
        return next(
            (s for s in (*wider, *cheaper) if s.predicted_accuracy > chosen.predicted_accuracy and place_of(s) not in self.tried), None
        )

    def candidate(self, predictor: AccuracyPredictor) -> Solution | None:
        """Return the best cut that was not tried yet and is within the budgets by the corrected table.

        Where that table has none, the cuts that were tried may have measured too high: the cheapest of all is tried before the run
        is given up. None if that was tried too.
        """
        try:
            found = candidates(predictor, self.corrected(), self.budgets, num=len(self.tried) + 1)
        except InfeasibleBudgetError:
            if not self.tried:
                raise
            found = (self.cheapest(predictor),)
        return next((s for s in found if place_of(s) not in self.tried), None)

    def cheapest(self, predictor: AccuracyPredictor) -> Solution:
        """Return the cut that the table says to be the farthest below the budgets."""
        cuts = predict_lattice(predictor, self.table)
        used = np.max([cuts.lattice.costs(budget.metric) / budget.limit for budget in self.budgets], axis=0)
        return solution_at(cuts, self.budgets, cuts.lattice.levels(int(used.argmin())))

    def corrected(self, least: float = 1.0) -> CostTable:
        """Return the table, each measured metric scaled by the median of measured over expected cost of the cuts tried, or `least`."""
        costs, lattice = dict(self.table.costs), Lattice(self.table)
        for metric in {b.metric for b in self.budgets}:
            cube = np.array(self.table.costs[metric])
            expected = [
                (measured[metric], lattice.cost(metric, lattice.at(place))) for place, measured in self.tried.items() if metric in measured
            ]
            if expected:
                factor = statistics.median(measured / table for measured, table in expected)
                costs[metric] = tuple(tuple(tuple(row) for row in plane) for plane in (cube * max(factor, least)).tolist())
        return dataclasses.replace(self.table, costs=costs)

    def cut(self, solution: Solution) -> Start:
        """Return the plan of a solution and the weights that it cuts; the shared weights of elastic training only choose.

        A fine-tune from them ended no higher than one from the base model's (benchmarks/results/effort-diary.md).
        """
        if is_elastic(self.run):
            nested, state = self.nested_cuts, self.base.surgeon.base.state_dict()
            return nested.plan(solution.blocks, solution.width, solution.side_px), state
        start = self.start_of(solution.blocks)
        return final_plan(self.run, self.data, self.base, self.trainer, solution, self.block_order, start), start[1]

    def measure(self, plan: PrunePlan) -> tuple[dict[str, float], str]:
        """Return the costs of a plan's real cut in the budgets' metrics, and whether they are within, over, or unclear."""
        model = self.base.surgeon.cut(plan)
        shape = self.base.shape_at(plan.side_px)
        costs, verdicts = {}, set()
        for budget in self.budgets:
            gauge, base_cost = self.gauge(budget.metric), self.table.base_cost(budget.metric)
            share = budget.limit / base_cost
            with self.trainer.measuring():
                found = gauge.measure(model, shape, is_clear=functools.partial(is_clear, share))
            costs[budget.metric] = cost_of(gauge, found, base_cost)
            verdicts.add(side_of(found, share))
            if "over" in verdicts:
                break
        return costs, next(v for v in ("over", "unclear", "within") if v in verdicts)

    def _shown(self, costs: dict[str, float]) -> str:
        return ", ".join(f"{b.metric} {costs[b.metric]:g}, limit {b.limit:g}" for b in self.budgets if b.metric in costs)

    def _none_is_cheap_enough(self) -> InfeasibleBudgetError | RefusedModelError:
        """Return the error that names the cheapest cost that was measured in the metric whose budget none met."""
        if self.refusal is not None and not any(self.tried.values()):
            return self.refusal
        worst = max(self.budgets, key=lambda b: min(c.get(b.metric, 0.0) for c in self.tried.values()) / b.limit)
        cheapest = min(c[worst.metric] for c in self.tried.values() if worst.metric in c)
        name = metric_spec(worst.metric).title
        return InfeasibleBudgetError(
            f"The cut model must be within its {name} budget when measured, but the cheapest of {len(self.tried)} cuts took {cheapest:g}, "
            f"limit {worst.limit:g}: raise the budget to that.",
            metric=worst.metric,
            smallest=cheapest,
        )


def place_of(solution: Solution) -> Place:
    """Return where on the lattice a solution cuts."""
    return Place(solution.blocks, solution.width, solution.side_px)


def side_of(found: Measurement, share: float) -> str:
    """Say whether a cost is within, over or unclear beside a limit, given as a share of the base model's cost."""
    if found.high <= share:
        return "within"
    if found.low > share:
        return "over"
    return "unclear" if found.ratio <= share else "over"


def is_clear(share: float, found: Measurement) -> bool:
    """Whether it is known on which side of the limit a cost lies."""
    return side_of(found, share) != "unclear"


def cost_of(gauge: Gauge, found: Measurement, base: float) -> float:
    """Return a cut's cost in the metric's unit: as counted, or as its share of the base model's cost `base`."""
    return found.cost if gauge.metric.is_counted else found.ratio * base


def final_plan(
    run: Run, data: Data, base: Base, trainer: Trainer, solution: Solution, block_order: Sequence[str], start: Start
) -> PrunePlan:
    """Return the plan of a solution, cut further from a starting point of its depth or more."""
    parent, state = start
    count = parent.num_blocks - solution.blocks - len(parent.removed_blocks)
    following = [name for name in block_order if name not in parent.removed_blocks][: max(count, 0)]
    removed = (*parent.removed_blocks, *following)
    return narrowed(run, data, base, trainer, removed, solution.width, solution.side_px, parent, state)


def starting_point(run: Run, base: Base, blocks: int) -> Start:
    """Return plan and base-shaped weights of the trial with full width and side that is nearest above in depth."""
    chain = [t for t in done_trials(run.store.trials()) if t.spec.axis in ("base", "depth")]
    usable = [t for t in chain if t.plan.num_blocks - len(t.plan.removed_blocks) >= blocks]
    best = max(usable, key=lambda t: len(t.plan.removed_blocks), default=None)
    if best is None or best.checkpoint is None:
        return base.surgeon.identity(), base.surgeon.base.state_dict()
    return best.plan, base.surgeon.expand(best.plan, load_checkpoint(run.directory.path / best.checkpoint))
