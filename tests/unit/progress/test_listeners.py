"""Lines, progress.json, events.jsonl, TensorBoard and a listener of the user's own."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clock import FakeClock, Heard

from triaxis.cli.show import now
from triaxis.config import Config, config_from_plain
from triaxis.errors import ConfigError, MissingDependencyError
from triaxis.process.mark import mark_of
from triaxis.progress import Meter, Moment, Progress, RunningTrial, Step
from triaxis.stages.listeners import EventLog, Lines, ProgressFile, TensorBoard, read_progress, watched
from triaxis.store.directory import RunDirectory

PAGE = Path(__file__).parents[3] / "docs" / "progress.md"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def train(progress: Progress, clock: FakeClock, *, epochs: int, steps: int, seconds: float) -> None:
    """Act as a stage that trains: `steps` a epoch, `seconds` each."""
    with progress.stage("base") as advance:
        meter = Meter(lambda share, moment: advance(share, "training", moment), epochs=epochs, batch_size=8, clock=clock)
        for step in range(1, epochs * steps + 1):
            clock.wait(seconds)
            meter(step, epochs * steps, 1.0)
        advance(1.0, "", Moment(event="result", val_accuracy=0.9))


@pytest.mark.parametrize(
    ("epochs", "steps", "seconds", "lines"),
    [
        (50, 10, 0.001, 1 + 2),  # half a second in all: its first word, and what is always said
        (50, 10, 0.01, 1 + 1 + 2),  # five seconds: the last epoch too; the first one was over too soon after the first word
        (2, 100, 1.0, 1 + 3 + 1 + 3 + 1 + 2),  # epochs of 100 s: the first word, one every 30 s, the ends of both epochs
    ],
)
def test_lines_are_few_and_none_is_missing(clock: FakeClock, epochs: int, steps: int, seconds: float, lines: int) -> None:
    said: list[str] = []
    train(Progress(Lines(said.append, clock), clock=clock), clock, epochs=epochs, steps=steps, seconds=seconds)
    assert len(said) == lines
    assert said[-2].startswith("base 100%, val accuracy 0.9000") and said[-1].startswith("base done after")
    assert said[0].startswith("base 0%, training, epoch 1 of ")


def test_an_hour_long_epoch_has_a_line_every_30_s_with_all_that_one_wants_to_know(clock: FakeClock) -> None:
    said: list[str] = []
    progress = Progress(Lines(said.append, clock), clock=clock)
    progress.expect({"base": 1.0, "prune": 1.0})
    train(progress, clock, epochs=1, steps=3600, seconds=1.0)
    assert len(said) == pytest.approx(3600 / 30, abs=4)
    said_half = "base 50%, training, epoch 1 of 1, loss 1, 8 images/s, ~30 min left of base, ~1 h 30 min of the run"
    assert said_half in said


def test_thousands_of_tiny_epochs_do_not_flood_the_log_with_epochs(clock: FakeClock) -> None:
    said: list[str] = []
    progress = Progress(Lines(said.append, clock), clock=clock)
    with progress.stage("collect") as advance:
        for trial in range(1, 51):
            for epoch in range(1, 51):
                clock.wait(0.001)
                advance(trial / 50, "width", Moment(event="epoch", trial=trial, num_trials=50, epoch=epoch, num_epochs=50))
    assert len(said) <= 5


def test_the_progress_file_says_where_the_run_is_and_who_writes_it(run: RunDirectory, clock: FakeClock) -> None:
    file = ProgressFile(run.progress_file, clock)
    step = Step(stage="collect", share=0.5, trial=3, num_trials=10, epoch=1, num_epochs=4, loss=0.5, run_left_s=60.0)
    file.hear(step)
    found = read_progress(run)
    assert found is not None and Step.from_json(found) == step
    assert (found["pid"], found["host"], found["is_running"]) == (os.getpid(), platform.node(), True)
    assert [path.name for path in run.path.iterdir()] == ["progress.json"]  # replaced whole, nothing beside it
    file.close()
    assert read_progress(run) is None and not list(run.path.iterdir())


def test_the_progress_file_is_written_once_a_second_and_at_every_turn(run: RunDirectory, clock: FakeClock) -> None:
    file = ProgressFile(run.progress_file, clock)

    def after(step: Step) -> float:
        file.hear(step)
        return json.loads(run.progress_file.read_text())["share"]

    assert after(Step(stage="base", share=0.1)) == 0.1
    clock.wait(0.5)
    assert after(Step(stage="base", share=0.2, event="epoch")) == 0.1
    clock.wait(0.6)
    assert after(Step(stage="base", share=0.3)) == 0.3
    assert after(Step(stage="base", share=1.0, event="end")) == 1.0


def test_a_file_of_a_process_that_is_gone_is_stale(run: RunDirectory) -> None:
    ProgressFile(run.progress_file).hear(Step(stage="base", share=0.5))
    plain = json.loads(run.progress_file.read_text())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    def is_running(**changed: Any) -> bool:
        run.progress_file.write_text(json.dumps({key: item for key, item in {**plain, **changed}.items() if item != "left out"}))
        found = read_progress(run)
        assert found is not None
        return found["is_running"]

    assert is_running()
    assert not is_running(pid=gone.pid)
    assert not is_running(pid=-1)
    assert not is_running(mark="of another process that had this number")
    assert not is_running(mark=None, pid=gone.pid)
    assert is_running(time=plain["time"] - 1e8) and is_running(time=plain["time"] + 1e8)  # clocks jump
    assert is_running(mark="left out")  # version 0.1 wrote none
    assert not is_running(mark="left out", time=plain["time"] - 1e8)


def test_a_process_that_waits_to_be_buried_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert (mark := mark_of(child.pid)) is not None and mark == mark_of(child.pid) != mark_of(os.getpid())
    child.stdin.close()  # type: ignore[union-attr]
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert mark_of(child.pid) is None
    child.wait()


class Elsewhere:
    """A process on another machine, whose clock is off by `skew` seconds, and a look at it from here."""

    def __init__(self, run: RunDirectory, clock: FakeClock, skew: float) -> None:
        self.run, self.clock, self.skew, self.share = run, clock, skew, 0.0
        self.waited: list[float] = []
        self.write()

    def write(self) -> None:
        self.share += 0.01
        ProgressFile(self.run.progress_file).hear(Step(stage="base", share=self.share))
        plain = json.loads(self.run.progress_file.read_text())
        self.run.progress_file.write_text(json.dumps({**plain, "host": "elsewhere", "time": time.time() + self.skew}))

    def is_running(self, *, writes_while_waited_for: bool = False) -> bool:
        def wait(seconds: float) -> None:
            self.waited.append(seconds)
            if writes_while_waited_for:
                self.write()

        found = read_progress(self.run, wait, self.clock)
        assert found is not None
        return found["is_running"]


@pytest.mark.parametrize("skew", [0.0, -60.0])
def test_a_process_elsewhere_is_believed_where_clocks_agree(run: RunDirectory, clock: FakeClock, skew: float) -> None:
    far = Elsewhere(run, clock, skew)
    assert far.is_running() and not far.waited


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_process_elsewhere_whose_clock_is_off_is_watched(run: RunDirectory, clock: FakeClock, skew: float) -> None:
    far = Elsewhere(run, clock, skew)
    assert not far.is_running()  # nothing was written in the 3 s
    assert far.is_running(writes_while_waited_for=True)
    assert far.waited == [3.0, 3.0]
    clock.wait(100)
    assert far.is_running()
    clock.wait(30)
    assert not far.is_running()  # silent for more than two minutes by this machine's own clock
    far.write()
    assert far.is_running() and len(far.waited) == 2


def test_the_trials_of_other_machines_are_in_the_file(run: RunDirectory) -> None:
    trials = (RunningTrial(trial=3, what="width w=0.5", share=0.25, place="node-1"),)
    file = ProgressFile(run.progress_file)
    file.hear(Step(stage="collect", trial=3, running=trials))
    found = read_progress(run)
    assert found is not None and found["running"] == [{"trial": 3, "what": "width w=0.5", "share": 0.25, "place": "node-1"}]
    assert Step.from_json(found).running == trials
    assert ("trial 3", "width w=0.5, 25% on node-1") in now(found)
    file.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stage": "base"}', '{"stage": "base", "pid": "x", "host": "", "time": 0}'])
def test_a_damaged_progress_file_is_no_progress(run: RunDirectory, text: str) -> None:
    run.progress_file.write_text(text)
    assert read_progress(run) is None


def test_the_event_log_has_a_json_object_a_line_and_goes_on_after_a_restart(run: RunDirectory, clock: FakeClock) -> None:
    for _ in range(2):
        events = EventLog(run.events_file, clock)
        train(Progress(events, clock=clock), clock, epochs=3, steps=4, seconds=0.1)
        events.close()
    lines = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    once = ["begin", "epoch", "epoch", "epoch", "result", "end"]
    assert [line["event"] for line in lines] == once * 2
    assert lines[1]["epoch"] == 1 and lines[1]["loss"] == 1.0 and "trial" not in lines[1]


def test_tensorboard_draws_a_curve_for_each_training(clock: FakeClock) -> None:
    points: list[tuple[str, float, int]] = []
    writer = types.SimpleNamespace(add_scalar=lambda *point: points.append(point), close=lambda: points.append(("closed", 0, 0)))
    board = TensorBoard(writer)
    train(Progress(board, clock=clock), clock, epochs=2, steps=3, seconds=1.0)
    board.hear(Step(stage="collect", event="epoch", trial=4, epoch=1, loss=0.5))
    board.hear(Step(stage="collect", event="result", trial=4, val_accuracy=0.8))
    board.close()
    assert ("base/loss", 1.0, 2) in points and ("base/images per second", 8.0, 1) in points and ("base/val accuracy", 0.9, 0) in points
    assert points[-3:] == [("trial 4/loss", 0.5, 1), ("collect/val accuracy", 0.8, 4), ("closed", 0, 0)]


def test_tensorboard_that_is_not_installed_is_asked_for_before_anything_is_trained(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"triaxis\[tensorboard\]"), watched(run, Config(progress=("tensorboard",)), None):
        pass


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module of the user's own."""
    module = types.ModuleType("own_listener")
    monkeypatch.setitem(sys.modules, "own_listener", module)
    return module


def test_a_listener_of_the_users_own_hears_everything(run: RunDirectory, own: Any) -> None:
    made: list[Any] = []

    class Own(Heard):
        def __init__(self, run_dir: Path, config: dict[str, Any]) -> None:
            super().__init__()
            made.append((self, run_dir, config["seed"]))

    own.Own = Own
    config = config_from_plain({"seed": 5, "progress": ["own_listener:Own"]})
    with watched(run, config, None) as progress, progress.stage("base") as advance:
        advance(0.5, "training")
    (listener, run_dir, seed) = made[0]
    assert (run_dir, seed) == (run.path, 5)
    assert [step.event for step in listener.steps] == ["begin", "step", "end"] and listener.is_closed


def test_a_listener_that_cannot_begin_is_warned_of_and_left_out(run: RunDirectory, own: Any, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(run_dir: Path, config: dict[str, Any]) -> Any:
        raise ConnectionError("no network")

    own.refuse = refuse
    with watched(run, config_from_plain({"progress": ["own_listener:refuse"]}), None) as progress, progress.stage("base"):
        pass
    assert "own_listener:refuse is told of no progress, because it raised ConnectionError: no network" in caplog.text


@pytest.mark.parametrize("name", ["own_listener:Nobody", "no_such_module_at_all:Name", "tensorbord"])
def test_a_listener_that_does_not_exist_is_an_error_at_once(run: RunDirectory, own: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=name.partition(":")[0]), watched(run, config_from_plain({"progress": [name]}), None):
        pass


@pytest.mark.parametrize("name", ["a:b:c", "a b:c", ""])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"progress\.0"):
        config_from_plain({"progress": [name]})


def test_a_full_disk_costs_the_files_and_not_the_run(run: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "open", full)
    with caplog.at_level(logging.WARNING), watched(run, Config(), None) as progress, progress.stage("base") as advance:
        advance(0.5, "")
    assert caplog.text.count("No space left") == 2


def stand_in(name: str, calls: list[Any]) -> types.ModuleType:
    """A module of which every function notes that it was called."""

    class Module(types.ModuleType):
        def __getattr__(self, key: str) -> Any:
            if key.startswith("__"):
                raise AttributeError(key)

            def note(*args: Any, **kwargs: Any) -> Any:
                calls.append((key, args))
                return self

            return note

    return Module(name)


@pytest.mark.parametrize(
    ("package", "name", "closing"), [("wandb", "WandB", "finish"), ("mlflow", "MLflow", "end_run"), ("csv", "Table", "")]
)
def test_the_listeners_of_the_page_work(
    package: str, name: str, closing: str, run: RunDirectory, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    if closing:
        monkeypatch.setitem(sys.modules, package, stand_in(package, calls))
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if f"class {name}" in block)
    space: dict[str, Any] = {}
    exec(code, space)
    listener = space[name](run.path, {"seed": 0})
    train(Progress(listener, clock=clock), clock, epochs=3, steps=2, seconds=1.0)
    listener.close()
    if closing:
        assert len([key for key, _ in calls if key.startswith("log")]) == 3 + 1 and calls[-1][0] == closing
    else:
        assert (run.path / "losses.csv").read_text().splitlines() == ["base,1,1.0", "base,2,1.0", "base,3,1.0"]


def test_what_a_killed_writer_left_half_written_is_removed(tmp_path: Path) -> None:
    place = RunDirectory(tmp_path / "run")
    with place.open(Config()):
        pass
    left = place.path / ".progress.json.123.tmp"
    left.write_text("{")
    with place.open(Config()):
        assert not left.exists()
