"""What a user gets from one run: the directory, the summary, the answers to new budgets, the reloaded models."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import triaxis
from triaxis.config import load_config
from triaxis.data.images import Preprocess
from triaxis.data.sources import load_splits
from triaxis.deliver.bundle import export
from triaxis.metrics.macs import count_macs, count_params
from triaxis.models.zoos import ModelSource, build
from triaxis.store.directory import RunDirectory
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import PrunePlan


@pytest.fixture(scope="module")
def summary(finished: Path) -> dict:
    return json.loads((finished / "summary.json").read_text())


def test_the_run_directory_holds_what_is_promised(finished):
    wanted = ["config.yaml", "store.sqlite", "checkpoints", "summary.json", "report.html", "log.txt"]
    wanted += [f"compressed/{name}" for name in ("model.safetensors", "plan.json", "model.pt2")]
    assert [name for name in wanted if not (finished / name).exists()] == []


def test_the_summary_has_the_promised_keys(summary):
    for side in ("base", "compressed"):
        assert {"val_accuracy", "test_accuracy", "macs", "params", "latency_ms"} <= set(summary[side])
        assert set(summary[side]["latency_ms"]) == {"1", "8"}
    assert {"metric", "limit", "fraction"} <= set(summary["budget"])
    assert {"depth", "width", "resolution", "predicted_accuracy", "interval"} <= set(summary["solution"])
    assert {"degree", "rank", "leave_one_out_mae"} <= set(summary["predictor"])
    assert summary["collection_cost_ratio"] > 0
    assert summary["collection_time_ratio"] > 0
    assert {"base", "collect", "prune", "verify"} <= set(summary["seconds"])


def test_the_networks_have_learnt(summary):
    assert summary["base"]["test_accuracy"] > 0.6  # chance is 0.1; the run is a small one
    assert summary["compressed"]["test_accuracy"] > 0.6


def test_the_delivered_model_is_within_budget_and_is_what_the_summary_says(finished, summary):
    model = triaxis.load(finished / "compressed")
    description = json.loads((finished / "compressed" / "plan.json").read_text())
    assert count_macs(model, tuple(description["input"])) == summary["compressed"]["macs"] <= summary["budget"]["limit"]
    assert summary["budget"]["limit"] == 0.5 * summary["base"]["macs"]
    assert count_params(model) == summary["compressed"]["params"]


def test_the_test_accuracy_is_what_the_reloaded_model_has_on_the_test_split(finished, summary):
    model, config = triaxis.load(finished / "compressed"), load_config(finished / "config.yaml")
    test = load_splits(config.data).test.open()
    side = json.loads((finished / "compressed" / "plan.json").read_text())["input"][1]
    right = 0
    with torch.inference_mode():
        for batch in test.in_order(side):
            right += int((model(batch.images).argmax(1) == batch.labels).sum())
    assert right / len(test) == pytest.approx(summary["compressed"]["test_accuracy"])


def test_the_pt2_file_runs_without_the_class_at_any_batch(finished):
    program = torch.export.load(finished / "compressed" / "model.pt2").module()
    live = triaxis.load(finished / "compressed")
    side = json.loads((finished / "compressed" / "plan.json").read_text())["input"][1]
    for batch in (1, 3):
        images = torch.randn(batch, 3, side, side)
        with torch.inference_mode():
            assert torch.allclose(program(images), live(images), atol=1e-4)


def test_every_file_is_free_of_pickle(finished):
    for path in finished.rglob("*.safetensors"):
        load_file(path)
    assert not [p for p in finished.rglob("*") if p.suffix in (".pkl", ".pt", ".pth", ".bin")]


def test_trials_form_chains_with_what_was_achieved(finished):
    with RunDirectory(finished).read() as store:
        trials = store.trials()
    by_id = {t.trial_id: t for t in trials}
    assert {t.state for t in trials} == {"done"} and len(trials) == 7
    for trial in trials:
        if trial.spec.parent:
            parent = by_id[trial.spec.parent]
            assert parent.spec.axis == trial.spec.axis
            assert getattr(trial.achieved, trial.spec.axis) < getattr(parent.achieved, trial.spec.axis)
            assert trial.macs < parent.macs
        kept = {c.group: set(c.kept) for c in trial.plan.channels}
        if trial.spec.parent and trial.spec.axis == "width":
            before = {c.group: set(c.kept) for c in by_id[trial.spec.parent].plan.channels}
            assert all(kept[group] <= before.get(group, kept[group]) for group in kept)


@pytest.mark.parametrize("budget", ["macs=70%", "macs=35%", "params=50%", "macs=200k", "latency=90%", "memory=80%"])
def test_a_new_budget_is_answered_from_the_trials_in_a_second(finished, budget, process):
    start = time.perf_counter()
    done = process("solve", finished, "--budget", budget, "--json")
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    metric = answer["budgets"][0]["metric"]
    assert answer["costs"][metric] <= answer["budgets"][0]["limit"]
    assert seconds < 5  # a second on an idle machine; tests share theirs


def test_prune_makes_the_model_of_another_budget_from_the_same_trials(finished, tmp_path, command):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    before = json.loads((copy / "summary.json").read_text())
    done = command("prune", copy, "--budget", "macs=35%")
    assert done.returncode == 0, done.stderr
    after = json.loads((copy / "summary.json").read_text())
    assert after["compressed"]["macs"] <= 0.35 * after["base"]["macs"] < before["compressed"]["macs"]
    assert after["num_trials"] == before["num_trials"]
    plan = PrunePlan.from_json(json.loads((copy / "compressed" / "plan.json").read_text())["plan"])
    assert count_params(triaxis.load(copy / "compressed")) == after["compressed"]["params"] and not plan.is_identity


@pytest.mark.parametrize("name", ["status", "frontier", "report", "fit"])
def test_the_other_commands_answer(finished, name, command):
    done = command(name, finished)
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr


def test_export_predict_and_bench_work_on_the_result(finished, tmp_path, command):
    pytest.importorskip("onnxruntime")
    import numpy as np
    import onnxruntime
    from PIL import Image

    from triaxis.data.digits import load_digits

    images, labels = load_digits()
    for number in range(20):
        Image.fromarray((images[number] * 15.9).astype(np.uint8)).save(tmp_path / f"{number:02d}.png")
    done = command("predict", finished / "compressed", *sorted(tmp_path.glob("*.png")), "--json")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    found = [max(classes, key=lambda c: c[1])[0] for classes in answers.values()]
    assert sum(name == str(true) for name, true in zip(found, labels[:20], strict=True)) >= 16

    done = command("export", finished, "--format", "onnx", "--with-preprocessing")
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(str(finished / "compressed" / "model_from_pixels.onnx"))
    side = json.loads((finished / "compressed" / "plan.json").read_text())["input"][1]
    pixels = torch.nn.functional.interpolate(torch.tensor(images[:20, None] / 16, dtype=torch.float32), side, mode="area")
    logits = session.run(None, {"images": pixels.expand(-1, 3, -1, -1).numpy()})[0]
    assert [str(best) for best in logits.argmax(1)] == found

    done = command("bench", finished, "--batch", "4", "--runtime", "eager", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["compressed_memory_mb"] < json.loads(done.stdout)[0]["base_memory_mb"]


def test_a_changed_configuration_is_refused_with_the_keys(finished, tiny_file, tmp_path, command):
    other = tmp_path / "other.yaml"
    other.write_text(tiny_file.read_text().replace("seed: 1", "seed: 2"))
    done = command("run", other, "--out", finished)
    assert done.returncode == 4
    assert "seed: 1 -> 2" in done.stderr


def test_an_impossible_budget_is_refused_before_any_trial(tiny_file, tmp_path, command):
    other = tmp_path / "other.yaml"
    other.write_text(tiny_file.read_text().replace("macs=50%", "macs=0.1%"))
    done = command("run", other, "--out", tmp_path / "run")
    assert done.returncode == 8
    assert "smallest possible" in done.stderr
    with RunDirectory(tmp_path / "run").read() as store:
        assert store.trials() == ()


def test_trials_can_be_added_to_a_finished_run(finished, tmp_path, command, monkeypatch):
    import shutil

    from triaxis.maths.design import NextTrial
    from triaxis.stages.pipeline import continue_run

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    with RunDirectory(copy).read() as store:
        before, predictor = store.trials(), store.record("predictor")
    # The rule may find no trial worth it; the place is then ours to choose.
    monkeypatch.setattr("triaxis.stages.refine.next_trial", lambda *a, **k: NextTrial((1, 2, 2), 0.01, 1.0, 0.01))
    continue_run(copy, "collect", num_more=2)
    with RunDirectory(copy).read() as store:
        after = store.trials()
        assert store.record("predictor") != predictor
    assert after[: len(before)] == before
    (new,) = after[len(before) :]  # the second time the place is measured already
    assert new.spec.axis == "joint" and new.state == "done"
    assert all(ratio < 1 for ratio in new.achieved.as_tuple())
    assert new.spec.parent in {t.trial_id for t in before if t.spec.axis == "depth"}


def test_files_of_another_plan_do_not_stay_beside_the_new_one(tmp_path):
    model = build("cifar:resnet8", {"width": 0.5}, 3)
    surgeon = Surgeon.examine(model, side_px=16)
    source = ModelSource(name="cifar:resnet8", args={"width": 0.5}, num_classes=3, side_px=16)

    def write(width: float) -> None:
        plan = surgeon.plan(width=width)
        export(tmp_path, surgeon.cut(plan), plan, source, Preprocess(), ("safetensors",))

    write(1.0)
    (tmp_path / "model.onnx").write_text("of the first plan")
    write(1.0)
    assert (tmp_path / "model.onnx").exists()
    write(0.5)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "plan.json"}
