"""Files of a run that were damaged on disk: named, never used, and what was good before stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from triaxis.errors import StoreError
from triaxis.store.checkpoints import save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.store.journal import journal_of


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> RunDirectory:
    return RunDirectory(shutil.copytree(finished, tmp_path / "run"))


def damage(path: Path) -> None:
    """Flip one bit in the middle of the values."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 4] ^= 1
    path.write_bytes(content)


def delivered(run: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.compressed.iterdir()}


def trial_file(run: RunDirectory, axis: str) -> Path:
    """The checkpoint of the first trial of a chain."""
    with run.read() as store:
        return next(run.path / str(t.checkpoint) for t in store.trials() if t.spec.axis == axis and t.spec.parent is None)


@pytest.mark.parametrize("budget", ["macs=50%", "macs=40%"])
def test_a_damaged_base_model_is_named_and_what_was_delivered_stays(copy, command, budget):
    damage(copy.checkpoint("base"))
    before = delivered(copy)
    done = command("prune", copy.path, "--budget", budget)
    assert (done.returncode, "base.safetensors" in done.stderr, "damaged" in done.stderr) == (StoreError.exit_code, True, True)
    assert delivered(copy) == before


def test_another_runs_base_model_is_no_substitute(copy, command):
    weights = load_file(copy.checkpoint("base"))
    save_checkpoint(copy.checkpoint("base"), {name: tensor * 2 for name, tensor in weights.items()})
    before = delivered(copy)
    done = command("prune", copy.path, "--budget", "macs=40%")
    assert done.returncode == StoreError.exit_code and "base model of this run's trials" in done.stderr
    assert delivered(copy) == before


def test_a_damaged_trial_from_which_another_starts_is_named(copy, command, tiny_file):
    with RunDirectory(copy.path).open() as store:
        # The last trial of the chain was not measured yet.
        last = next(t for t in reversed(store.trials()) if t.spec.parent)
        store._connection.execute("DELETE FROM trials WHERE trial_id = ?", (last.trial_id,))
    journal_of(copy.store_file).unlink()
    damage(copy.checkpoint(str(last.spec.parent)))
    done = command("run", tiny_file, "--out", copy.path)
    assert done.returncode == StoreError.exit_code
    assert f"{last.spec.parent}.safetensors" in done.stderr and "damaged" in done.stderr


def test_a_damaged_trial_from_which_the_final_cut_starts_is_named(copy, command):
    file = trial_file(copy, "depth")
    for name in copy.checkpoints.glob("*.safetensors"):
        if name.stem != "base":
            damage(name)
    before = delivered(copy)
    done = command("prune", copy.path, "--budget", "macs=40%")
    assert done.returncode == StoreError.exit_code and "damaged" in done.stderr and file.parent.name in done.stderr
    assert delivered(copy) == before


def test_a_damaged_final_model_is_named_and_made_again_once_it_is_removed(copy, command):
    (file,) = copy.checkpoints.glob("final-*.safetensors")
    before = delivered(copy)
    whole = file.read_bytes()
    damage(file)
    done = command("prune", copy.path)
    assert done.returncode == StoreError.exit_code and f"{file.name}" in done.stderr and "remove it" in done.stderr
    assert delivered(copy) == before
    file.unlink()
    assert command("prune", copy.path).returncode == 0
    assert file.read_bytes() == whole


def test_a_damaged_delivered_model_is_named(copy, command):
    damage(copy.compressed / "model.safetensors")
    done = command("export", copy.path, "--format", "pt2")
    assert done.returncode == StoreError.exit_code and "model.safetensors" in done.stderr and "triaxis prune" in done.stderr


def test_a_run_whose_checkpoints_have_no_digest_goes_on(copy, command, tiny_file):
    """As version 0.1 left it."""
    for path in [*copy.checkpoints.glob("*.safetensors"), copy.compressed / "model.safetensors"]:
        save_file(load_file(path), path)
    for words in (["run", tiny_file, "--out", copy.path], ["solve", copy.path], ["report", copy.path]):
        done = command(*words)
        assert done.returncode == 0, done.stderr


def test_a_file_in_place_of_the_folder_of_the_delivered_model_is_said_before_training(tmp_path, tiny, tiny_file, command):
    run = RunDirectory(tmp_path / "run")
    with run.open(tiny):
        pass
    run.compressed.write_text("mine")
    done = command("run", tiny_file, "--out", run.path)
    assert done.returncode == StoreError.exit_code and "compressed must be a folder" in done.stderr
    assert not any(run.checkpoints.iterdir()) and run.compressed.read_text() == "mine"


def test_a_foreign_directory_is_left_alone(tmp_path, tiny_file, command):
    (tmp_path / "compressed").mkdir()
    (tmp_path / "compressed" / "model.safetensors").write_text("mine")
    (tmp_path / ".draft.1.tmp").write_text("mine")
    done = command("run", tiny_file, "--out", tmp_path)
    assert done.returncode == StoreError.exit_code and "must be empty or hold a run" in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".draft.1.tmp", "compressed", "model.safetensors"]


def weights(run: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.checkpoints.glob("*.safetensors")}


def test_checkpoints_that_were_removed_are_made_again_bit_by_bit(copy, command, tiny_file):
    before, outcome = weights(copy), delivered(copy)
    with copy.read() as store:
        trials = store.trials()
    chain = [t.checkpoint for t in trials if t.spec.axis == "depth"]
    for name in ["checkpoints/base.safetensors", *chain]:
        (copy.path / str(name)).unlink()
    done = command("run", tiny_file, "--out", copy.path)
    assert done.returncode == 0, done.stderr
    assert "base.safetensors is gone" in done.stderr and done.stderr.count("is trained again for its weights") == len(chain)
    assert weights(copy) == before and delivered(copy) == outcome
    with copy.read() as store:
        assert store.trials() == trials
    assert not list(copy.checkpoints.glob("*.resume"))
