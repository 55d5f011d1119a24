"""What a run has to do, in epochs of the base model."""

from __future__ import annotations

import pytest

from triaxis.config import config_from_plain
from triaxis.stages.forecast import effort, forecast
from triaxis.values import Recipe


def test_an_effort_grows_with_epochs_and_macs_and_with_a_teacher() -> None:
    recipe = Recipe(epochs=10, distill=0.5)
    assert effort(recipe, 1.0) == pytest.approx(10.1 * 1.1)
    assert effort(recipe, 1.0, is_taught=True) == pytest.approx(10.1 * 1.1 + 10 / 3)
    assert effort(Recipe(epochs=10), 1.0, is_taught=True) == effort(Recipe(epochs=10), 1.0)
    assert effort(recipe, 0.25) < effort(recipe, 0.5)


def test_a_run_without_cuts_is_all_full_trainings() -> None:
    plain = {
        "base": {"epochs": 30},
        "collect": {"num_trials": 9, "min_depth": 1, "min_width": 1, "min_resolution": 1, "recipe": {"epochs": 4}},
        "finetune": {"epochs": 20},
        "budget": "macs=100%",
    }
    found = forecast(config_from_plain(plain))
    one = 4.1 * 1.1
    assert found == pytest.approx({"base": 30.1 * 1.1, "collect": 6 * one, "between": 3 * one, "refine": 0.0, "prune": 20.1 * 1.1})


def test_a_smaller_budget_and_smaller_floors_are_less_to_do() -> None:
    def total(**plain: object) -> float:
        return sum(forecast(config_from_plain(plain)).values())

    assert total(budget="macs=25%") < total(budget="macs=50%") < total(budget="macs=90%")
    assert total(collect={"min_width": 0.25}) < total(collect={"min_width": 0.75})
    assert total(collect={"off_axis": 3}) > total()


def test_an_effort_is_split_between_collecting_and_the_final_fine_tune() -> None:
    plain = {"effort": 0.5, "base": {"epochs": 30}, "collect": {"method": "elastic", "effort": 0.08, "largest_part": 0.4}}
    found = forecast(config_from_plain(plain))
    assert found["prune"] == pytest.approx((0.5 - 0.08) * 30)
    assert 0.08 * 30 < found["collect"] < found["prune"]
    # Of a small effort collecting takes its largest part, and no more.
    assert forecast(config_from_plain({**plain, "effort": 0.1}))["prune"] == pytest.approx(0.06 * 30)
