"""A whole run with elastic collection, in small: many cuts measured for one training, and the effort kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from triaxis.config import config_from_plain
from triaxis.errors import ConfigError
from triaxis.maths.predict import predict
from triaxis.stages.pipeline import Outcome, continue_run, run
from triaxis.store.directory import RunDirectory
from triaxis.values import AccuracyPredictor, BudgetSpec


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Steps this small crawl on several threads where other processes want the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def outcome(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    plain = yaml.safe_load(tiny_file.read_text())
    plain |= {"effort": 0.6, "threads": 1}
    plain["collect"] |= {"method": "elastic", "effort": 0.2, "num_cuts": 14}
    plain["collect"] |= {"shared": plain["collect"]["recipe"], "views": 2}
    plain["profile"]["repeats"] = 3
    return run(config_from_plain(plain), tmp_path_factory.mktemp("elastic") / "run")


def test_effort_is_kept_and_mostly_used(outcome: Outcome) -> None:
    with RunDirectory(outcome.directory).read() as store:
        effort, trials = store.record("effort"), store.trials()
    # Collecting takes whole epochs; the fine-tune gets the rest, in whole epochs of a network at half the MACs or less.
    assert 0.1 < effort["collect"] <= 0.2
    assert 0.6 - 0.5 / 12 - 1e-6 <= effort["total"] <= 0.6
    assert len(trials) == 14 and all(t.state == "done" and t.checkpoint is None for t in trials)
    assert {t.spec.axis for t in trials} == {"base", "depth", "width", "resolution", "joint"}


def test_it_is_within_budget_and_another_budget_trains_no_cut_again(outcome: Outcome) -> None:
    assert outcome.summary["compressed"]["macs"] <= 0.5 * outcome.summary["base"]["macs"]
    shared = outcome.directory / "checkpoints" / "elastic.safetensors"
    before = shared.stat().st_mtime_ns
    again = continue_run(outcome.directory, "prune", budgets=(BudgetSpec.parse("macs=30%"),))
    assert again is not None and again.summary["compressed"]["macs"] <= 0.3 * again.summary["base"]["macs"]
    assert shared.stat().st_mtime_ns == before
    json.dumps(again.summary)


def test_predictions_are_lifted_to_the_level_of_the_base_model(outcome: Outcome) -> None:
    with RunDirectory(outcome.directory).read() as store:
        base, elastic, trials = store.record("base"), store.record("elastic"), store.trials()
        predictor = AccuracyPredictor.from_json(store.record("predictor"))
    uncut = next(t for t in trials if t.spec.axis == "base")
    assert uncut.val_accuracy + elastic["lift"] == pytest.approx(base["val_accuracy"])
    # Averaged over the points, the fit leaves nothing: it is made to the lifted accuracies.
    x = [t.achieved.as_tuple() for t in trials]
    left = predict(predictor, x).accuracy - [t.val_accuracy + elastic["lift"] for t in trials]
    assert abs(left.mean()) < 0.03


def test_trials_of_the_other_kind_are_refused(outcome: Outcome) -> None:
    with pytest.raises(ConfigError, match=r"collect\.num_cuts"):
        continue_run(outcome.directory, "collect", num_more=2)
