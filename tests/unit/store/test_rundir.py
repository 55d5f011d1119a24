from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from triaxis.config import Config, config_from_plain, load_config
from triaxis.errors import ExperimentMismatchError, StoreError, StoreLockedError
from triaxis.store.directory import RunDirectory

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
        store.put_record("base", {})
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
    half = run.checkpoints / ".abc.safetensors.123.tmp"
    half.write_bytes(b"half")
    keep = run.checkpoint("abc")
    keep.write_bytes(b"whole")
    with run.read():
        assert half.exists()
    with run.open():
        assert not half.exists()
    assert keep.read_bytes() == b"whole"
