"""A grid in small, from the configuration file to the page: scanned digits at 8 px and very narrow networks."""

from __future__ import annotations

import functools
import json
import pickle
import sqlite3
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.errors import ExperimentMismatchError, TrainingError
from triaxis.progress import Progress, Step
from triaxis.study.grid import open_work, run_grid
from triaxis.study.grid_config import load_grid_config
from triaxis.study.grid_networks import NetworkSpec
from triaxis.study.grid_train import Bench
from triaxis.training.mode import Mode

TINY = """
depths: [8, 14]
widths: [0.25, 0.5]
sides_px: [6, 8]
cells: cube
precision: bf16  # the memory format is timed otherwise, and two grids may not choose alike
threads: 1
recipe: {epochs: 1, batch_size: 32, crop_px: 1, flip: false}
data: {source: digits, side_px: 8, val_fraction: 0.05, test_fraction: 0.2, max_train_images: 96}
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_grid: Path) -> Path:
    out = tmp_path_factory.mktemp("grids") / "undisturbed"
    done = CliRunner().invoke(app, ["study", "grid", str(tiny_grid), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "8 networks were trained" in " ".join(done.output.split())
    return out


def networks(out: Path) -> dict[str, tuple[str, float]]:
    found = json.loads((out / "grid.json").read_text())["networks"]
    return {network["id"]: (network["state"], network["accuracy"], network["loss"]) for network in found}


class Interrupting:
    """A listener that presses Ctrl-C when the training is about half done."""

    def hear(self, step: Step) -> None:
        if step.stage == "train" and step.event != "end" and step.share > 0.5:
            raise KeyboardInterrupt

    def close(self) -> None: ...


def test_all_cells_are_trained_and_analysed(finished: Path) -> None:
    found = json.loads((finished / "grid.json").read_text())
    assert len(found["networks"]) == 8
    assert {network["state"] for network in found["networks"]} == {"done"}
    assert [a["table"]["name"] for a in found["study"]["family"]["tables"]] == ["a", "b", "c"]
    assert found["trainer"]["images_per_second"] > 0 and 0 < found["trainer"]["share_of_peak"] < 1
    assert {"device", "threads", "versions", "mode"} <= set(found["environment"])
    assert (finished / "grid.md").read_text().startswith("# A grid of ResNets")
    assert (finished / "grid.html").stat().st_size > 10_000
    assert not list((finished / "checkpoints").iterdir())


def test_finished_networks_are_not_trained_again(finished: Path, tiny_grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = networks(finished)

    def forbidden(self: Bench, *args: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Bench, "attempt", forbidden)
    run_grid(load_grid_config(tiny_grid), finished)
    assert networks(finished) == before


def test_an_interrupted_grid_ends_with_the_same_numbers(finished: Path, tiny_grid: Path, tmp_path: Path) -> None:
    config = load_grid_config(tiny_grid)
    with pytest.raises(KeyboardInterrupt):
        run_grid(config, tmp_path / "grid", progress=Progress(Interrupting()))
    store = sqlite3.connect(tmp_path / "grid" / "store.sqlite")
    num_before = store.execute("select count(*) from records where key like 'network/%'").fetchone()[0]
    store.close()
    assert 0 < num_before < 8
    run_grid(config, tmp_path / "grid")
    assert networks(tmp_path / "grid") == networks(finished)


def test_a_failed_network_is_a_record_and_is_tried_again(
    finished: Path, tiny_grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = load_grid_config(tiny_grid), Bench.train_network

    def fragile(self: Bench, spec, on_step=None):
        if spec.layers == 14 and spec.side_px == 6:
            raise TrainingError("a reason")
        return whole(self, spec, on_step)

    monkeypatch.setattr(Bench, "train_network", fragile)
    report = run_grid(config, tmp_path / "grid")
    assert len(report.finished) == 6 and len(report.failed) == 2
    assert "a reason" in (tmp_path / "grid" / "grid.md").read_text()
    monkeypatch.undo()
    assert len(run_grid(config, tmp_path / "grid").finished) == 8
    assert networks(tmp_path / "grid") == networks(finished)


def test_another_configuration_is_refused_with_the_keys(finished: Path, tiny_grid: Path) -> None:
    changed = load_grid_config(tiny_grid).model_copy(update={"seeds": (1,)})
    with pytest.raises(ExperimentMismatchError, match=r"seeds: \[0\] -> \[1\]"):
        run_grid(changed, finished)


def test_a_worker_process_does_the_same(finished: Path, tiny_grid: Path, tmp_path: Path) -> None:
    # What is sent to a worker, unpickled here: starting a process with torch in it takes as long as all the other tests.
    # Threads and precision are the driver's, so that the numbers are too.
    sent = pickle.dumps(functools.partial(open_work, load_grid_config(tiny_grid), tmp_path, Mode.from_json(mode_of(finished)), "cpu", 1))
    spec = NetworkSpec.from_json(specs_of(finished)[-1])
    result = pickle.loads(pickle.dumps(pickle.loads(sent)()(spec)))
    assert networks(finished)[spec.network_id] == ("done", result.accuracy, result.loss)


def mode_of(out: Path) -> dict:
    return json.loads((out / "grid.json").read_text())["environment"]["mode"]


def specs_of(out: Path) -> list[dict]:
    store = sqlite3.connect(out / "store.sqlite")
    bodies = [json.loads(body) for (body,) in store.execute("select body from records where key like 'network/%'")]
    store.close()
    return [{"schema": body["schema"], **body["spec"]} for body in bodies]
