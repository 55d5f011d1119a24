from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

import triaxis.cli
from triaxis import errors
from triaxis.cli import app, stages
from triaxis.cli.frame import StageProgress
from triaxis.cli.output import NO_OUTPUT, NO_READER
from triaxis.config import Config, config_from_plain, load_config
from triaxis.progress import Moment, Step
from triaxis.report.live import LiveServer
from triaxis.stages.listeners import ProgressFile
from triaxis.store.directory import RunDirectory
from triaxis.store.files import write_json
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import FailedTrial

runner = CliRunner()

SUMMARY = {
    "base": {
        "macs": 4e7,
        "params": 2.7e5,
        "file_bytes": 1.1e6,
        "val_accuracy": 0.98,
        "test_accuracy": 0.97,
        "latency_ms": {"1": 4.0, "64": 80.0},
    },
    "compressed": {
        "macs": 2e7,
        "params": 1e5,
        "file_bytes": 5e5,
        "val_accuracy": 0.975,
        "test_accuracy": 0.972,
        "latency_ms": {"1": 2.0, "64": 50},
    },
}


def invoke(*arguments: object, code: int = 0) -> Any:
    result = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose trials were collected by the fake trainer, one of them broken."""
    trainer, specs = FakeTrainer(), chain_specs((0.9, 0.75, 0.6, 0.45, 0.25))
    place = RunDirectory(tmp_path_factory.mktemp("cli") / "run")
    with place.open(config_from_plain({"fit": {"kind": "polynomial"}})) as store:
        for spec in specs[:-1]:
            store.put_trial(trainer(spec))
        store.put_trial(FailedTrial(spec=specs[-1], error="Traceback\nRuntimeError: out of memory"))
        store.put_record("cost_table", trainer.cost_table().to_json())
        store.put_record("seconds", {"collect": 12.5})
    return place.path


@pytest.fixture
def run_dir(collected: Path, tmp_path: Path) -> Path:
    return shutil.copytree(collected, tmp_path / "run")


@pytest.fixture(scope="module")
def fitted_once(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = shutil.copytree(collected, tmp_path_factory.mktemp("cli") / "fitted")
    invoke("fit", path)
    return path


@pytest.fixture
def fitted(fitted_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fitted_once, tmp_path / "run")


def test_fit_prints_the_report_and_stores_it(run_dir: Path) -> None:
    found = json.loads(invoke("fit", run_dir, "--json").stdout)
    assert found["fit_report"]["rmse"] < 1e-6
    with RunDirectory(run_dir).read() as store:
        assert store.record("predictor") == found["predictor"]
    assert "leave-one-out MAE" in invoke("fit", run_dir).output


def test_solve_answers_a_budget(fitted: Path) -> None:
    found = json.loads(invoke("solve", fitted, "--budget", "macs=25%", "--json").stdout)
    assert found["costs"]["macs"] <= 0.25 * FakeTrainer().macs == found["budgets"][0]["limit"]
    text = invoke("solve", fitted, "-b", "macs=25%").output
    assert f"{found['side_px']} px" in text and "of 10 M" in text


def test_solve_takes_the_runs_own_budget_when_none_is_given(fitted: Path) -> None:
    assert json.loads(invoke("solve", fitted, "--json").stdout)["budgets"][0]["fraction"] == 0.5


def test_frontier_has_a_line_for_each_budget(fitted: Path) -> None:
    found = json.loads(invoke("frontier", fitted, "--num", 10, "--json").stdout)
    assert len(found) == 10
    text = invoke("frontier", fitted, "--num", 10).output
    assert "100.0 %" in text and "━" in text


def test_what_is_warned_of_is_seen(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warned(run_dir: Path) -> dict[str, object]:
        logging.getLogger("triaxis.somewhere").warning("2 of [3] images were left out")
        return {}

    monkeypatch.setattr("triaxis.cli.progress_of.progress_of", warned)
    assert "warning: 2 of [3] images were left out" in invoke("status", fitted, "--json").stderr


def test_status_says_how_far_a_run_is(fitted: Path) -> None:
    found = json.loads(invoke("status", fitted, "--json").stdout)
    assert found["trials"] == {"done": 15, "failed": 1}
    assert found["stages"] == {"base": False, "collect": False, "fit": True, "solve": False, "prune": False, "report": False}
    assert list(found["failures"].values()) == ["RuntimeError: out of memory"]
    text = invoke("status", fitted).output
    assert "15 done, 1 failed" in text and "out of memory" in text


def progressing(run_dir: Path, **facts: Any) -> ProgressFile:
    """A progress file as a process that is at work on the run writes it."""
    file = ProgressFile(run_dir / "progress.json")
    file.hear(Step(**({"stage": "refine", "share": 0.25, "trial": 3, "num_trials": 12, "run_left_s": 300.0} | facts)))
    return file


def test_status_says_what_is_under_way(fitted: Path) -> None:
    file = progressing(fitted)
    found = json.loads(invoke("status", fitted, "--json").stdout)
    assert found["running"] == "collect"  # refining belongs to it
    assert found["progress"]["is_running"] and found["progress"]["trial"] == 3
    text = invoke("status", fitted).output
    assert "running, 12.5 s" in text and "refine 25%, trial 3 of 12" in text and "~5 min of the run" in text
    file.close()
    assert json.loads(invoke("status", fitted, "--json").stdout)["progress"] is None


def test_status_says_that_a_process_is_gone(fitted: Path) -> None:
    progressing(fitted)
    plain = json.loads((fitted / "progress.json").read_text())
    (fitted / "progress.json").write_text(json.dumps({**plain, "pid": 2**22 + 1}))
    # A cell of the table may be wrapped, which depends on the length of the directory's name.
    text = " ".join(invoke("status", fitted).output.replace("│", " ").split())
    assert "is gone; it was at refine 25%, trial 3 of 12" in text and "running" not in text


def test_status_is_watched_until_the_run_ends(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, pauses = progressing(fitted), []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        file.close() if len(pauses) == 2 else file.hear(Step(stage="prune", share=0.5, event="result"))

    monkeypatch.setattr(stages.time, "sleep", wait)
    text = invoke("status", fitted, "--watch").output
    assert pauses == [stages.WATCH_S] * 2
    assert text.index("refine 25%") < text.index("prune 50%") and text.count("run ") >= 3
    invoke("status", fitted, "-w", "--json")
    assert len(pauses) == 2  # nothing runs any more


def test_off_a_terminal_the_stages_are_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pipeline(monkeypatch, [])
    (tmp_path / "a.yaml").write_text("")
    lines = invoke("run", tmp_path / "a.yaml", "--out", tmp_path / "run").stderr.splitlines()
    assert lines[0] == "collect 50%, width [0.7]"
    assert lines[1].startswith("collect done after")


def test_on_a_terminal_the_stages_are_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=160, legacy_windows=False)
    monkeypatch.setattr("triaxis.cli.frame.err", screen)
    with StageProgress() as progress:
        with progress.stage("collect") as advance:
            advance(0.5, "width [0.7]", Moment(epoch=2, num_epochs=4))
            progress._shown._bars.refresh()  # type: ignore[attr-defined]
            shown = Text.from_ansi(screen.file.getvalue()).plain  # type: ignore[attr-defined]
            assert "collect" in shown and " 50 %" in shown and "width [0.7], epoch 2 of 4" in shown
        with pytest.raises(KeyboardInterrupt), progress.stage("prune"):
            raise KeyboardInterrupt
    assert "100 %" in Text.from_ansi(screen.file.getvalue()).plain  # type: ignore[attr-defined]


def test_status_shows_the_result_of_a_finished_run(fitted: Path) -> None:
    write_json(fitted / "summary.json", SUMMARY)
    text = invoke("status", fitted).output
    for shown in ("97.20 %", "+0.20 points", "20 M", "-50.0 %", "2.00 x faster", "1.60 x faster"):
        assert shown in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["solve", "{run}", "-b", "macs=0%"], errors.ConfigError),
        (["solve", "{run}", "-b", "macs=200%"], errors.ConfigError),
        (["solve", "{run}", "-b", "speed"], errors.ConfigError),
        (["solve", "{run}", "-b", "macs=10%", "-b", "macs=1M"], errors.ConfigError),
        (["solve", "{run}", "-b", "macs=1k"], errors.InfeasibleBudgetError),
        (["solve", "{run}", "-b", "latency=3ms"], errors.ConfigError),
        (["solve", "{run}/nowhere"], errors.StoreError),
        (["status", "{run}/nowhere"], errors.StoreError),
        (["frontier", "{run}", "--metric", "beauty"], errors.ConfigError),
        (["run", "{run}/missing.yaml"], errors.ConfigError),
        (["inspect", "timm:resnet18", "--keep", "depth=2"], errors.ConfigError),
        (["inspect", "timm:resnet18", "--keep", "height=0.5"], errors.ConfigError),
        (["init", "--file", "{run}/config.yaml"], errors.ConfigError),
        (["init", "--data", "imagefolder:{run}/nowhere", "--file", "{run}/new.yaml"], errors.DataError),
    ],
)
def test_bad_input_is_one_sentence_and_its_exit_code(fitted: Path, arguments: list[str], error: type[errors.TriaxisError]) -> None:
    result = invoke(*(argument.format(run=fitted) for argument in arguments), code=error.exit_code)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_a_wrong_option_is_a_usage_error() -> None:
    assert "--bugdet" in invoke("solve", "run", "--bugdet", "macs=1%", code=2).stderr
    invoke("fit", "run", "--predict", "other.csv", code=2)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, fitted: Path) -> None:
    monkeypatch.setattr("triaxis.stages.solve.solve_run", lambda *_: 1 / 0)
    result = runner.invoke(app, ["solve", str(fitted)])
    assert isinstance(result.exception, ZeroDivisionError)


def fake_pipeline(monkeypatch: pytest.MonkeyPatch, calls: list[Any], error: BaseException | None = None) -> None:
    def run(config: Config, out: Path, *, progress: StageProgress) -> None:
        with progress.stage("collect") as advance:
            advance(0.5, "width [0.7]")
        if error:
            raise error
        calls.append((config, out))
        write_json(out / "summary.json", SUMMARY)

    def continue_run(path: Path, stage: str, *, progress: StageProgress, **options: Any) -> None:
        calls.append((path, stage, options))
        write_json(path / "summary.json", SUMMARY)

    # In place of the module, so that torch is not imported for a test of words.
    monkeypatch.setitem(sys.modules, "triaxis.stages.pipeline", SimpleNamespace(run=run, continue_run=continue_run))
    monkeypatch.setattr(stages, "_write_report", lambda place, progress: place / "report.html")


def test_run_goes_into_a_directory_named_after_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    fake_pipeline(monkeypatch, calls)
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text("budget: macs=30%\ncollect: {workers: 3}\n")
    result = invoke("run", "small.yaml")
    invoke("run", "small.yaml", "--out", "elsewhere")
    config = load_config("small.yaml")
    assert calls == [(config, Path("runs/small")), (config, Path("elsewhere"))]
    assert "97.20 %" in result.stdout and "runs/small/report.html" in result.stdout
    assert "collect.workers has no effect" in result.stderr


def test_ctrl_c_says_that_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pipeline(monkeypatch, [], KeyboardInterrupt())
    (tmp_path / "a.yaml").write_text("")
    result = invoke("run", tmp_path / "a.yaml", code=130)
    assert "run the same command to go on" in result.stderr
    assert "Traceback" not in result.stderr


def test_every_error_class_becomes_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("")
    for kind in (errors.TrainingError, errors.StoreLockedError, errors.ExportError):
        fake_pipeline(monkeypatch, [], kind("it must hold [that], got this"))
        assert "it must hold [that], got this" in invoke("run", tmp_path / "a.yaml", code=kind.exit_code).stderr


def test_collect_and_prune_go_on_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    fake_pipeline(monkeypatch, calls)
    (tmp_path / "config.yaml").write_text("{}\n")
    invoke("collect", tmp_path)
    invoke("collect", tmp_path, "--trials", 3)
    invoke("prune", tmp_path)
    invoke("prune", tmp_path, "--budget", "macs=30%")
    assert [call[:2] for call in calls] == [(tmp_path, stage) for stage in ("collect", "collect", "prune", "prune")]
    assert [call[2].get("num_more") for call in calls[:2]] == [0, 3]
    assert calls[2][2]["budgets"] is None
    assert calls[3][2]["budgets"][0].fraction == 0.3


def test_report_works_on_a_half_finished_run(fitted: Path) -> None:
    assert "report.html" in invoke("report", fitted).stdout
    assert "<html" in (fitted / "report.html").read_text()


def test_several_runs_are_compared_on_one_page(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = shutil.copytree(fitted, tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    assert "report-compare.html" in invoke("report", fitted, other).stdout
    assert "frontier" in Path("report-compare.html").read_text() and not (other / "report.html").exists()
    invoke("report", fitted, other, "--out", "compared.html")
    assert Path("compared.html").read_text() == Path("report-compare.html").read_text()
    assert "--out goes with several runs" in invoke("report", fitted, "--out", "x.html", code=2).stderr
    assert "named twice" in invoke("report", fitted, fitted, code=errors.ConfigError.exit_code).stderr


def test_open_serves_the_page_on_this_machine_until_it_is_stopped(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = []

    def serve_once(server: LiveServer, poll_interval: float) -> None:
        asking = threading.Thread(target=lambda: answered.append(urllib.request.urlopen(server.address, timeout=10).read().decode()))
        asking.start()
        server.handle_request()
        asking.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveServer, "serve_forever", serve_once)
    text = invoke("open", fitted, "--no-browser").stdout
    assert re.search(r"//127\.0\.0\.1:\d+/ shows .*Only this machine can see it", text) and "not touched" in text
    assert "15 done, 1 failed" in answered[0] and "out of memory" in answered[0]
    assert "must be a run directory" in invoke("open", fitted / "nowhere", code=errors.StoreError.exit_code).stderr


def test_every_command_shows_an_example() -> None:
    names = re.findall(r'"(\w+)"', str([command.callback.__name__ for command in app.registered_commands]).replace("'", '"'))
    assert len(names) >= 13
    for name in names:
        assert f"triaxis {name}" in invoke(name, "--help").output


QUICK = """
import sys
from typer.testing import CliRunner
from triaxis.cli import app
for arguments in {arguments!r}:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
loaded = {{"torch", "torchvision", "timm", "ray", "sklearn"}} & set(sys.modules)
assert not loaded, loaded
"""


def test_what_needs_no_network_imports_no_torch(fitted: Path, tmp_path: Path) -> None:
    run = str(fitted)
    arguments = [["--help"], ["run", "--help"], ["fit", run], ["solve", run], ["frontier", run], ["status", run]]
    arguments += [["init", "--file", str(tmp_path / "new.yaml")]]
    subprocess.run([sys.executable, "-c", QUICK.format(arguments=arguments)], check=True)


def test_the_console_script_is_the_app() -> None:
    command = [sys.executable, "-c", "import triaxis.cli; triaxis.cli.main()", "--help"]
    assert "frontier" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert callable(triaxis.cli.main)


def piped(arguments: list[str], shell: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with its output sent somewhere by a shell."""
    words = [sys.executable, "-m", "triaxis", *arguments]
    script = f'"$@" {shell}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, timeout=60, check=False)


OUTPUTS = [["status", "RUN"], ["status", "RUN", "--json"], ["solve", "RUN"], ["--help"]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
def test_a_full_disk_behind_the_output_is_one_sentence(fitted: Path, words: list[str]) -> None:
    done = piped([str(fitted) if word == "RUN" else word for word in words], "> /dev/full")
    assert done.returncode == NO_OUTPUT
    assert (
        done.stderr == "error: What is printed must go somewhere, got 'No space left on device': send standard output to another place.\n"
    )


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
def test_a_reader_that_has_left_ends_the_program_in_silence(fitted: Path, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "triaxis", *(str(fitted) if word == "RUN" else word for word in words)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (NO_READER, "")


def test_both_streams_closed_is_no_traceback(fitted: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "triaxis", "solve", "nowhere"], stdout=write, stderr=write, timeout=60, check=False)
    os.close(write)
    assert done.returncode == NO_READER


def test_another_failing_file_is_not_taken_for_the_output(monkeypatch: pytest.MonkeyPatch, fitted: Path) -> None:
    def fail(run: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("triaxis.cli.progress_of.progress_of", fail)
    result = runner.invoke(app, ["status", str(fitted)])
    assert isinstance(result.exception, OSError) and result.exception.errno == errno.ENOSPC


@pytest.mark.parametrize("command", ["status", "solve", "report", "fit", "frontier"])
@pytest.mark.parametrize("harm", ["no database", "no JSON", "no trial", "no cost table"])
def test_a_damaged_store_is_one_sentence(fitted: Path, command: str, harm: str) -> None:
    store = RunDirectory(fitted).store_file
    store.with_name("store.journal").unlink()  # with it the store would be made anew
    if harm == "no database":
        store.write_text("this is only a text\n" * 100)
    else:
        with sqlite3.connect(store) as connection:
            connection.execute("UPDATE trials SET body = ?", ("{}" if harm == "no trial" else "{",))
            connection.execute("UPDATE records SET body = ? WHERE key = 'cost_table'", ("[]" if harm == "no cost table" else "{}",))
        connection.close()
    result = runner.invoke(app, [command, str(fitted)], env={"COLUMNS": "160"})
    assert result.exit_code == errors.StoreError.exit_code, (result.output, result.exception)
    assert "store.sqlite" in result.stderr and "damaged" in result.stderr and "Traceback" not in result.stderr
