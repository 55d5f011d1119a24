"""How far a run is, as one sees it from outside: in a file that standard error goes to, and from a second process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triaxis.progress import Progress, Step
from triaxis.stages.pipeline import run


def test_off_a_terminal_a_run_says_lines_from_base_training_to_the_report(finished: Path) -> None:
    lines = (finished.parent / "stderr.txt").read_text().splitlines()
    training = [line for line in lines if line.startswith("base ") and "epoch" in line]
    assert training and "of 12" in training[0] and "images/s" in training[-1] and "loss" in training[-1]
    assert any(line.startswith("collect ") and "trial 3 of 7" in line and "val accuracy" in line for line in lines)
    assert any(line.startswith("prune ") and "left of prune" in line for line in lines)
    assert lines[-1].startswith("report done")
    assert len(lines) < 100


def test_the_log_has_the_same_lines_and_the_events_have_every_epoch(finished: Path) -> None:
    log = (finished / "log.txt").read_text()
    assert "training the base model, epoch" in log and "base done after" in log
    events = [json.loads(line) for line in (finished / "events.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events if event["stage"] == "base" and event["event"] == "epoch"] == list(range(1, 13))
    assert sum(event["event"] == "result" for event in events if event["stage"] == "collect") == 7
    assert {event["num_trials"] for event in events if "trial" in event} == {7}
    assert all(0 <= event["share"] <= 1 for event in events)
    losses = [event["loss"] for event in events if event["stage"] == "base" and event["event"] == "epoch"]
    assert losses[-1] < losses[0]


def test_nothing_is_under_way_after_a_run(finished: Path, command: Any) -> None:
    assert not (finished / "progress.json").exists()
    found = json.loads(command("status", finished, "--json").stdout)
    assert found["running"] is None and found["progress"] is None


def test_the_time_of_each_trial_is_divided_among_its_parts(finished: Path, command: Any) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    parts = summary["seconds_by_part"]
    assert {"block choice", "cutting", "training", "calibration", "validation", "teacher", "checkpoints"} <= set(parts["trials"])
    assert 0 < parts["base"]["training"] <= summary["seconds"]["base"]
    assert 0.5 * summary["seconds"]["collect"] < sum(parts["trials"].values()) < summary["seconds"]["collect"]
    page = (finished / "report.html").read_text()
    assert "Their wall time was" in page


class Asking:
    """Asks another process for the status at a moment of a stage, and stops the run at the last one."""

    def __init__(self, moments: list[tuple[str, float]], ask: Any) -> None:
        self.moments, self.ask, self.answers = moments, ask, []

    def hear(self, step: Step) -> None:
        if self.moments and step.stage == self.moments[0][0] and step.epoch and step.share >= self.moments[0][1]:
            self.moments.pop(0)
            self.answers.append(self.ask())
            if not self.moments:
                raise KeyboardInterrupt

    def close(self) -> None: ...


def test_another_process_sees_the_run_in_the_middle(tiny: Any, tmp_path: Path, process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A training this short ends before the file is due again.
    monkeypatch.setattr("triaxis.stages.listeners.SHORT_S", 0.0)
    asking = Asking([("base", 0.5), ("collect", 0.3)], lambda: json.loads(process("status", tmp_path / "run", "--json").stdout))
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "run", progress=Progress(asking))
    base, collect = asking.answers
    assert base["running"] == "base" and base["stages"]["base"] is False
    assert base["progress"]["num_epochs"] == 12 and base["progress"]["is_running"]
    assert collect["running"] == "collect" and collect["progress"]["num_trials"] == 7
    assert collect["progress"]["run_left_s"] > 0
    assert not (tmp_path / "run" / "progress.json").exists()
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "error" and events[-1]["stage"] == "collect"
