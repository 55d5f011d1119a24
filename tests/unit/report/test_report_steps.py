"""The slider's numbers are those of `triaxis frontier`; the diagram's are those of the plan."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from triaxis.report import figures, html
from triaxis.report.network import network
from triaxis.report.records import Records
from triaxis.report.steps import NUM_STEPS, budget_steps
from triaxis.stages.solve import frontier_run, solve_run
from triaxis.store import MemoryStore
from triaxis.values import BudgetSpec, PrunePlan


def stored(records: Records) -> MemoryStore:
    assert records.cost_table and records.predictor and records.fit_report
    store = MemoryStore()
    for key in ("cost_table", "predictor", "fit_report"):
        store.put_record(key, getattr(records, key).to_json())
    return store


def test_the_pages_steps_are_the_numbers_of_the_frontier_command(records: Records) -> None:
    text = html.render(records, "demo")
    source = re.search(r'<script type="application/json" id="budget-steps">(.*?)</script>', text)
    assert source
    steps = json.loads(source[1])
    wanted = frontier_run(stored(records), "macs", NUM_STEPS)
    assert len(steps) == len(wanted) == NUM_STEPS
    for step, solution in zip(steps, wanted, strict=True):
        assert step["costs"] == solution.costs and set(step["costs"]) == {"macs", "latency_ms"}
        assert step["ratios"] == list(solution.ratios.as_tuple())
        assert (step["blocks"], step["side_px"]) == (solution.blocks, solution.side_px)
        assert step["predicted_accuracy"] == solution.predicted_accuracy
        assert step["interval"] == list(solution.interval)
        assert step["budget"] == solution.budgets[0].limit


def test_a_steps_command_buys_no_worse_cut_than_the_step_shows(records: Records) -> None:
    """The command names the budget rounded up to 0.1 %, so what it gives is at least as good."""
    found = figures.frontier_figure(records)
    assert found
    steps = budget_steps(records, found)
    for number in (3, 50, 77, NUM_STEPS - 1):
        budget = steps.said(number)["command"].removeprefix("triaxis prune RUN --budget ")
        solution = solve_run(stored(records), [BudgetSpec.parse(budget)])
        assert solution.predicted_accuracy >= steps.solutions[number].predicted_accuracy - 1e-12


def test_the_slider_starts_at_the_runs_own_budget(records: Records) -> None:
    found = figures.frontier_figure(records)
    assert found and found.budget
    steps = budget_steps(records, found)
    gaps = [abs(step.budgets[0].limit - found.budget.limit) for step in steps.solutions]
    assert gaps[steps.start] == min(gaps)
    assert steps.said(NUM_STEPS - 1)["macs share"] == "100.0 % of base"


def test_the_diagram_has_the_plans_integers_in_the_networks_order(records: Records) -> None:
    assert records.plan and records.anatomy
    groups = [{"name": cut.group, "num_channels": cut.num_channels} for cut in records.plan.channels]
    found = network(dataclasses.replace(records, anatomy={**records.anatomy, "groups": groups}))
    assert found and [len(stage.blocks) for stage in found.stages] == [3, 3, 3]
    blocks = [block for stage in found.stages for block in stage.blocks]
    assert [block.name for block in blocks if not block.is_kept] == list(records.plan.removed_blocks)
    shown = [(g.name, g.before, g.after) for g in (*found.outside, *(g for block in blocks for g in block.groups))]
    assert shown == [(cut.group, cut.num_channels, len(cut.kept)) for cut in records.plan.channels]
    assert [group.name for group in found.outside] == ["stem.conv"]
    assert found.outside[0].breadth == pytest.approx(16 / 64)


def test_a_group_that_is_not_cut_is_drawn_whole() -> None:
    anatomy = {
        "blocks": [{"name": "a.1", "stage": "a", "modules": ["a.1"]}, {"name": "a.10", "stage": "a", "modules": ["a.10"]}],
        "groups": [{"name": "a.10.conv", "num_channels": 8}],
    }
    plan = PrunePlan(num_blocks=2, removed_blocks=("a.1",), num_channels=8, base_side_px=8, side_px=6)
    found = network(Records(plan=plan, anatomy=anatomy))
    assert found and found.outside == () and [block.is_kept for block in found.stages[0].blocks] == [False, True]
    assert [[(g.before, g.after) for g in block.groups] for block in found.stages[0].blocks] == [[], [(8, 8)]]
    assert network(Records()) is None
