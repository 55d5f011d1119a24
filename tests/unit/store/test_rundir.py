from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from triaxis.config import Config, config_from_plain, load_config
from triaxis.deliver.bundle import FILES
from triaxis.errors import ExperimentMismatchError, StoreError, StoreLockedError
from triaxis.store.directory import RunDirectory
from triaxis.study.grid_config import GridConfig
from triaxis.study.grid_directory import GridDirectory

HOLDER = """
import sys
from triaxis.config import Config
from triaxis.store.directory import RunDirectory
with RunDirectory(sys.argv[1]).open(Config()):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_naming_a_run_touches_nothing(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_new_run_gets_its_layout(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "deep" / "run")
    with run.open(Config()) as store:
        store.put_record("seconds", {"fit": 1})
        assert store.record("config") == Config().to_plain()
    assert load_config(run.config_file) == Config() == run.config()
    assert run.checkpoints.is_dir() and run.store_file.is_file() and run.log_file.is_file()
    with run.read() as store:
        assert store.record("seconds") == {"fit": 1}


def test_what_the_package_logs_is_in_the_log(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for number in (1, 2):
        with run.open(Config()):
            logging.getLogger("triaxis.stages.collect").info("trial %d is done", number)
    logging.getLogger("triaxis.stages.collect").warning("nobody is running")
    lines = run.log_file.read_text().splitlines()
    assert len(lines) == 2
    assert "INFO triaxis.stages.collect: trial 2 is done" in lines[1]
    assert logging.getLogger("triaxis").handlers == []


def test_no_run_is_a_sentence_with_the_command_that_makes_one(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "empty")
    with pytest.raises(StoreError, match="triaxis run"), run.read():
        pass
    with pytest.raises(StoreError, match="triaxis run"), run.open():
        pass
    assert not run.path.exists()


def test_an_unwritable_place_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be writable"), RunDirectory(tmp_path / "file" / "run").open(Config()):
        pass


def test_a_changed_configuration_is_refused_with_the_differing_keys(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()) as store:
        store.put_record("base", {"val_accuracy": 0.5, "macs": 10, "train_macs": 1.0})
    changed = config_from_plain({"seed": 5, "collect": {"recipe": {"epochs": 7}}})
    with pytest.raises(ExperimentMismatchError) as caught, run.open(changed):
        pass
    assert "seed: 0 -> 5" in str(caught.value) and "collect.recipe.epochs: 4 -> 7" in str(caught.value)
    assert "--budget" not in str(caught.value)
    assert run.config() == Config()


def test_a_mistake_is_mended_in_place_while_nothing_is_trained(tmp_path: Path) -> None:
    run, mended = RunDirectory(tmp_path), config_from_plain({"model": "cifar:resnet20"})
    with run.open(config_from_plain({"model": "cifar:resnet15"})) as store:
        store.put_record("environment", {"mode": "of another model"})
    with run.open(mended) as store:
        assert store.record("environment") is None
    assert run.config() == mended


def test_a_changed_budget_is_refused_with_the_command_that_answers_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()):
        (run.checkpoints / "base.resume").write_text("")
    with pytest.raises(ExperimentMismatchError, match=r"triaxis prune .* --budget"), run.open(config_from_plain({"budget": "macs=30%"})):
        pass


def test_settings_that_do_not_touch_the_numbers_may_change(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()):
        pass
    changed = config_from_plain({"export": {"formats": ["onnx"]}, "data": {"workers": 3}})
    with run.open(changed) as store:
        assert store.record("config") == changed.to_plain()
    assert run.config() == changed


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.open(Config()):
        with pytest.raises(StoreLockedError, match=str(os.getpid())), RunDirectory(tmp_path / "." / "run").open(Config()):
            pass
        with run.read() as store:
            assert store.trials() == ()
    with run.open(Config()):
        pass


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError, match=f"process {holder.pid} "), run.open():
            pass
        with run.read() as store:
            assert store.trials() == ()
        holder.send_signal(signal.SIGKILL)
    with run.open() as store:
        assert store.record("config") == Config().to_plain()


def test_half_files_of_a_killed_writer_are_cleared(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()):
        pass
    half = run.checkpoints / f".{'0a' * 8}.safetensors.123.tmp"
    half.write_bytes(b"half")
    keep = run.checkpoint("abc")
    keep.write_bytes(b"whole")
    with run.read():
        assert half.exists()
    with run.open():
        assert not half.exists()
    assert keep.read_bytes() == b"whole"


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_every_name_that_is_written_is_cleared_of_half_files_and_no_other(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.open(Config()):
        pass
    run.compressed.mkdir()
    (run.path / "mine").mkdir()
    trial = "0123456789abcdef"
    names = ["config.yaml", "summary.json", "report.html"]
    names += [f"checkpoints/{stem}.{end}" for stem in ("base", trial, f"final-{trial}") for end in ("safetensors", "resume")]
    names += [f"compressed/{name}" for name in FILES]
    ours = [(run.path / name).with_name(f".{Path(name).name}.123.tmp") for name in names]
    ours.append(run.compressed / ".model.pt2.123.tmp.pt2")
    theirs = [run.path / name for name in (".notes.tmp", ".base.safetensors.1.tmp", "mine/.config.yaml.1.tmp", "checkpoints/.secret.1.tmp")]
    for path in [*ours, *theirs]:
        path.write_text("x")
    with run.open():
        assert [path for path in ours if path.exists()] == []
    assert all(path.read_text() == "x" for path in theirs)


FOREIGN: list[dict[str, str]] = [
    {"notes.txt": "mine"},
    {"config.yaml": "seed: 3  # my own file\n"},
    {"config.yaml": "learning_rate: 3\n", "checkpoints/best.pt": "weights"},
    {"checkpoints/base.safetensors": "weights"},
    {"compressed/model.safetensors": "weights"},
    {"summary.json": "{}"},
    {"report.html": "page"},
    {"log.txt": "lines"},
    {".hidden.tmp": "mine"},
    {".lock": "1", "checkpoints/base.safetensors": "weights"},
    {".lock": "1", "log.txt": "", "data/cat.png": "picture"},
    {"grid.yaml": "", "store.sqlite": "", ".lock": ""},
]


@pytest.mark.parametrize("files", FOREIGN, ids=lambda files: "+".join(files))
@pytest.mark.parametrize("kind", ["run", "grid"])
def test_a_directory_of_somebody_else_is_refused_and_left_alone(tmp_path: Path, files: dict[str, str], kind: str) -> None:
    if kind == "grid" and "grid.yaml" in files:
        pytest.skip("this one is a grid's")
    place = tmp_path / "mine"
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    before = contents(place)
    opened = RunDirectory(place).open(Config()) if kind == "run" else GridDirectory(place).open_grid(GridConfig())
    with pytest.raises(StoreError, match=rf"must be empty or hold a {kind} of triaxis.*such as .*--out"), opened:
        pass
    assert contents(place) == before


def test_a_runs_own_configuration_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(StoreError, match=r"such as config\.yaml"), RunDirectory(tmp_path).open():
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


@pytest.mark.parametrize("last", range(1, 6))
def test_what_a_process_killed_very_early_leaves_goes_on(tmp_path: Path, last: int) -> None:
    steps = [
        lambda: (tmp_path / "checkpoints").mkdir(),
        lambda: (tmp_path / ".lock").write_text("17\n"),
        lambda: (tmp_path / "log.txt").write_text(""),
        lambda: (tmp_path / ".config.yaml.17.tmp").write_text("seed"),
        lambda: ((tmp_path / "config.yaml").write_text(Config().to_yaml()), (tmp_path / "store.sqlite").write_bytes(b"")),
    ]
    for step in steps[:last]:
        step()
    with RunDirectory(tmp_path).open(Config()) as store:
        assert store.record("config") == Config().to_plain()
    assert not (tmp_path / ".config.yaml.17.tmp").exists()


def test_a_run_without_its_hidden_files_goes_on(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()):
        pass
    run.lock_file.unlink()
    (tmp_path / "my notes.txt").write_text("kept")
    with run.open(Config()):
        pass
    assert (tmp_path / "my notes.txt").read_text() == "kept"


def test_a_runs_directory_is_no_grids(tmp_path: Path) -> None:
    with RunDirectory(tmp_path).open(Config()):
        pass
    with pytest.raises(ExperimentMismatchError, match="a run is in it"), GridDirectory(tmp_path).open_grid(GridConfig()):
        pass


@pytest.mark.parametrize("name", [*RunDirectory.FILES, *RunDirectory.FOLDERS])
def test_what_is_of_the_wrong_kind_is_said_before_anything_is_done(tmp_path: Path, name: str) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()):
        pass
    place = tmp_path / name
    if name in RunDirectory.FILES:
        place.unlink(missing_ok=True)
        place.mkdir()
    else:
        if place.exists():
            place.rmdir()
        place.write_text("mine")
    with pytest.raises(StoreError, match=rf"{name} must be a (file|folder), but a (folder|file) is in its place"), run.open(Config()):
        pass


def test_a_backup_of_the_store_outlives_a_mended_configuration(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()):
        pass
    (tmp_path / "store.sqlite.bak").write_text("kept")
    with run.open(config_from_plain({"seed": 1})):
        pass
    assert (tmp_path / "store.sqlite.bak").read_text() == "kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_the_disk_does_not_take_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()):
        pass
    run.log_file.unlink()
    run.log_file.symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"log\.txt must have room, but the disk is full"), run.open():
        logging.getLogger("triaxis.stages.collect").info("a line")
    assert "Traceback" not in capsys.readouterr().err


GOOD_BASE = {"val_accuracy": 0.9, "macs": 10, "train_macs": 5.0}
BAD_RECORDS = [
    ("base", "no JSON at all"),
    ("base", "[1, 2]"),
    ("base", "{}"),
    ("base", json.dumps({**GOOD_BASE, "val_accuracy": "high"})),
    ("base", '{"val_accuracy": NaN, "macs": 10, "train_macs": 1}'),
    ("seconds", '{"collect": "long"}'),
    ("environment", '{"mode": 3}'),
    ("block_order", '{"a": 1}'),
    ("off_axis_levels", '[[1, 2, "x"]]'),
    ("cost_table", "[]"),
    ("cost_table", '{"schema": 1, "blocks": 3}'),
    ("cost_table", '{"schema": 99}'),
    ("predictor", '{"schema": 1}'),
    ("final:abc", "{}"),
    ("verification:abc", "7"),
    ("config", "[" * 100_000),
]


@pytest.mark.parametrize(("key", "body"), BAD_RECORDS, ids=lambda text: text[:30])
def test_a_damaged_record_is_named_in_one_sentence(tmp_path: Path, key: str, body: str) -> None:
    run = RunDirectory(tmp_path)
    with run.open(Config()) as store:
        store.put_record("base", GOOD_BASE)
        assert store.record("base") == GOOD_BASE
    with sqlite3.connect(run.store_file) as connection:
        connection.execute("INSERT OR REPLACE INTO records (key, body) VALUES (?, ?)", (key, body))
    connection.close()
    with run.read() as store, pytest.raises(StoreError, match=rf"record {key} in .*store\.sqlite is damaged.*put a copy") as caught:
        store.record(key)
    assert "\n" not in str(caught.value)
