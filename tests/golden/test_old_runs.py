"""A run directory that an earlier version made still opens, answers, and goes on. One of each version stays here for good."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import triaxis
from triaxis.cli import app

RUNS = sorted((Path(__file__).parent / "runs").iterdir())


def command(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def old_run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / "run"))


def test_it_answers_as_it_did(old_run: Path) -> None:
    before = json.loads((old_run / "summary.json").read_text())["solution"]
    found = json.loads(command("solve", old_run, "--json"))
    # A summary holds what the cut achieved, the answer what the lattice's level does.
    assert found["ratios"] == pytest.approx({axis: before[axis] for axis in ("depth", "width", "resolution")}, abs=0.1)
    assert found["predicted_accuracy"] == pytest.approx(before["predicted_accuracy"], abs=1e-6)
    assert json.loads(command("status", old_run, "--json"))["trials"]["failed"] == 0


def test_it_shows_its_report(old_run: Path) -> None:
    command("report", old_run)
    assert "</html>" in (old_run / "report.html").read_text()


def test_its_model_loads_and_runs(old_run: Path) -> None:
    model = triaxis.load(old_run / "compressed")
    description = json.loads((old_run / "compressed" / "plan.json").read_text())
    assert model(torch.zeros(2, *description["input"])).shape == (2, 10)


def test_it_goes_on_without_repeating_a_trial(old_run: Path) -> None:
    before = json.loads(command("status", old_run, "--json"))
    command("prune", old_run, "--budget", "macs=30%")
    after = json.loads(command("status", old_run, "--json"))
    assert after["trials"] == before["trials"]
    assert after["seconds"]["collect"] < before["seconds"]["collect"] + 1
    summary = json.loads((old_run / "summary.json").read_text())
    assert summary["compressed"]["macs"] <= 0.3 * summary["base"]["macs"]
