"""Trials on a real Ray cluster: three nodes in one machine, each with a working directory and a home of its own."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from triaxis.config import Config, config_from_plain
from triaxis.errors import ConfigError, DataError
from triaxis.execution import Share, Work, make_executor, run_trials
from triaxis.execution.ray import pinned_to
from triaxis.progress import Moment
from triaxis.stages.base import open_run
from triaxis.stages.elsewhere import work_elsewhere
from triaxis.stages.pipeline import collect_stage
from triaxis.store.checkpoints import load_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import TrialResult, TrialSpec

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

QUICK = {"health_check_initial_delay_ms": 100, "health_check_period_ms": 200, "health_check_failure_threshold": 3}


@contextmanager
def at_home(folder: Path) -> Iterator[None]:
    """Work in a folder, which is the user's home too; what is started within keeps both."""
    before, home = Path.cwd(), os.environ["HOME"]
    os.chdir(folder)
    os.environ["HOME"] = str(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ["HOME"] = home


class Nodes:
    """The cluster, and the homes of its nodes; the first is the driver's."""

    def __init__(self, root: Path) -> None:
        from ray.cluster_utils import Cluster

        self.root, self.homes = root, []
        self.cluster = Cluster()
        self.add(_system_config=QUICK, include_dashboard=False)
        self.add()
        self.last = self.add()

    def add(self, **settings: Any) -> Any:
        home = self.root / f"home{len(self.homes)}"
        home.mkdir()
        self.homes.append(home)
        with at_home(home):
            return self.cluster.add_node(num_cpus=1, **settings)

    def left_behind(self) -> list[str]:
        """Return what lies in the homes of the nodes but the driver's, besides the pictures that were put there."""
        return [str(path) for home in self.homes[1:] for path in home.iterdir() if path.name != "pictures"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    found = Nodes(tmp_path_factory.mktemp("nodes"))
    yield found
    ray.shutdown()
    found.cluster.shutdown()


@pytest.fixture
def driver(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """The cluster, with this process at home on its first node; ``auto`` finds it even where other clusters run."""
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    monkeypatch.setattr("triaxis.execution.ray.BEAT_S", 0.2)
    with at_home(nodes.homes[0]):
        yield nodes


@pytest.fixture
def connected(driver: Nodes) -> Nodes:
    """The cluster, to which this process stays connected, so that its worker processes stay too."""
    if not ray.is_initialized():
        ray.init(address="auto", log_to_driver=False)
    return driver


def told(trials: tuple[TrialResult, ...]) -> dict[str, TrialResult]:
    """Return trials by id, without what their time was."""
    return {t.trial_id: dataclasses.replace(t, seconds=0.0, seconds_by_part={}) for t in trials}


def require_same(one: RunDirectory, other: RunDirectory) -> None:
    """Compare the trials of two runs, and their weights to the last bit."""
    with one.read() as a, other.read() as b:
        trials = told(a.trials())
        assert trials == told(b.trials()) and len(trials) > 4
    for trial_id in trials:
        left, right = (load_checkpoint(run.checkpoint(trial_id)) for run in (one, other))
        assert left.keys() == right.keys()
        assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())


PICTURES = {"source": "imagefolder:~/pictures", "side_px": 8, "memory": "stream", "workers": 1}


def small(**collect: Any) -> Config:
    short = {"epochs": 1, "batch_size": 16, "crop_px": 1}
    cluster, data = {"address": "auto", **collect.pop("cluster", {})}, collect.pop("data", PICTURES)
    return config_from_plain(
        {
            "threads": 1,
            "precision": "fp32",
            "model": {"name": "cifar:resnet14", "args": {"width": 0.25}},
            "data": data,
            "base": short,
            "collect": {"recipe": short, "num_trials": 4, "block_images": 16, "calibrate_images": 32, "cluster": cluster, **collect},
            "finetune": short,
            "width": {"round_to": 2},
            "profile": {"repeats": 3, "batches": [1]},
            "export": {"formats": ["safetensors"]},
        }
    )


def measure(path: str, config: Config) -> RunDirectory:
    run = RunDirectory(path)
    with run.open(config) as store:
        collect_stage(*open_run(config, run, store), config.budgets)
    return run


def put_pictures(home: Path, change: bool = False) -> None:
    """Put 120 pictures of two classes there; `change` swaps two of them, so that names and lengths stay."""
    random = np.random.default_rng(0)
    files = []
    for name in ("dark", "light"):
        (home / "pictures" / name).mkdir(parents=True)
        for n in range(60):
            pixels = random.integers(0, 128, (10, 10, 3), dtype=np.uint8) + (128 if name == "light" else 0)
            files.append(home / "pictures" / name / f"{n:02}.bmp")
            Image.fromarray(pixels.astype(np.uint8)).save(files[-1])
    if change:
        one, other = files[0].read_bytes(), files[1].read_bytes()
        files[0].write_bytes(other)
        files[1].write_bytes(one)


def test_one_command_gives_the_serial_run_s_numbers_to_the_last_bit(driver: Nodes, command) -> None:
    """The nodes get all that they need by Ray, the images too: neither the run directory's path nor a disk is shared."""
    config = small(data={"source": "digits", "side_px": 8, "max_train_images": 160})
    Path("small.yaml").write_text(config.to_yaml())
    done = command("run", "small.yaml", "--out", "run", "--executor", "ray", "--address", "auto")
    assert done.returncode == 0, done.stderr
    require_same(measure("serial-digits", config), RunDirectory("run"))
    assert driver.left_behind() == []


@pytest.fixture
def pictures(connected: Nodes) -> Iterator[Nodes]:
    for home in connected.homes:
        put_pictures(home)
    yield connected
    for home in connected.homes:
        shutil.rmtree(home / "pictures")


def test_images_by_path_are_opened_on_each_node(pictures: Nodes) -> None:
    serial = measure("serial", small(executor="serial"))
    by_path = measure("by-path", small(executor="ray", cluster={"images": "path"}))
    require_same(serial, by_path)
    assert pictures.left_behind() == []


def test_other_images_on_a_node_are_said_with_the_node_and_both_digests(pictures: Nodes) -> None:
    for home in pictures.homes:
        shutil.rmtree(home / "pictures")
        put_pictures(home, change=home != pictures.homes[0])
    with pytest.raises(DataError, match=r"Node \S+ must have the images .*train split has other files.*[0-9a-f]{16} at the driver"):
        measure("differing", small(executor="ray", workers=3, cluster={"images": "path"}))


def test_a_node_that_dies_in_the_middle_of_a_trial_is_replaced_and_nothing_counts_twice(connected: Nodes, tmp_path: Path) -> None:
    specs = chain_specs((0.8, 0.5))
    kept, seen, killed = [], [], []
    stubborn = specs[1].trial_id

    def do(spec: TrialSpec, given: Any, tell: Any) -> tuple[TrialResult, Any]:
        """Do a trial; the first try at one of them never ends. Files remember the tries, which nothing else could."""
        (tmp_path / f"{spec.trial_id}-{len(list(tmp_path.iterdir()))}").touch()
        tell(0.5, Moment(epoch=1))
        if spec.trial_id == stubborn and len(list(tmp_path.glob(f"{stubborn}-*"))) == 1:
            (tmp_path / "node").write_text(ray.get_runtime_context().get_node_id())
            threading.Event().wait(100)
        return FakeTrainer()(spec), f"weights of {spec.trial_id}"

    def keep(result: TrialResult, made: Any) -> TrialResult:
        kept.append((result.trial_id, made))
        return result

    def kill(spec: TrialSpec, share: float, moment: Moment, place: str) -> None:
        if spec.trial_id == stubborn and share == 0.5 and not killed:
            assert moment.epoch == 1 and place
            node = (tmp_path / "node").read_text()
            killed.extend(n for n in connected.cluster.worker_nodes if n.node_id == node)
            connected.cluster.remove_node(killed[0], allow_graceful=False)

    mine = ray.get_runtime_context().get_node_id()
    # The head node is the driver's own: the work that does not end must not be there.
    block = ray.remote(num_cpus=1)(lambda: threading.Event().wait(100))
    work = Work(do, keep=keep, hear=kill)
    affinity = pinned_to(mine)
    busy = block.options(scheduling_strategy=affinity).remote()
    executor = make_executor("ray", address="auto", share=Share(cpus=1), retries=1)
    results = run_trials(executor, specs, work, seen.append)
    ray.cancel(busy, force=True)
    assert len(killed) == 1
    assert results == tuple(FakeTrainer()(spec) for spec in specs)
    assert sorted(r.trial_id for r in seen) == sorted(s.trial_id for s in specs)
    assert sorted(kept) == sorted((s.trial_id, f"weights of {s.trial_id}") for s in specs)
    assert len(list(tmp_path.glob(f"{stubborn}-*"))) == 2
    connected.add()


def test_a_trial_that_fits_no_node_is_said_at_once(connected: Nodes) -> None:
    executor = make_executor("ray", address="auto", share=Share(cpus=2))
    with pytest.raises(ConfigError, match=r"needs 2 cores on one node, but no node .* the largest has 1 cores"):
        run_trials(executor, chain_specs()[:1], FakeTrainer(), lambda result: None)


def test_what_is_sent_does_not_know_the_run_directory(connected: Nodes) -> None:
    config = small(executor="ray", data={"source": "digits", "side_px": 8})
    run = RunDirectory("known-to-the-driver-only")
    with run.open(config) as store:
        opened = open_run(config, run, store)
        sent = ray.cloudpickle.dumps(work_elsewhere(*opened).do)
    assert b"known-to-the-driver-only" not in sent
    assert len(sent) > 10_000  # the images are in it
    assert run.store_file.name.encode() not in sent


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_no_cluster_at_an_address_is_one_sentence_before_anything_is_trained(
    tmp_path: Path, tiny_file: Path, command, address: str
) -> None:
    ray.shutdown()
    done = command("run", tiny_file, "--out", tmp_path / "run", "--executor", "ray", "--address", address)
    assert done.returncode == ConfigError.exit_code
    assert f"A Ray cluster must answer at the address {address}" in " ".join(done.stderr.split())
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
