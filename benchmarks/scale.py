"""How trials scale over nodes, and what many trials and many images cost the driver: ``python benchmarks/scale.py``.

Nodes are simulated: several of Ray's nodes in this machine, each with two places for trials. A trial sleeps for a known time,
so that it needs no core and the machine does not decide; what is measured is what triaxis and Ray add to it. The worker
processes are started before the clock. Efficiency is trials per hour over places x 3600 / seconds of a trial.

The driver's cost is measured in a process for each part: a store with 10,000 trials, the same number of empty trials through
Ray on one node, and a split of 1,000,000 image files of which only the names are there.

Writes results/scale.json and results/scale.md beside this file after each part. Stopped, the same command goes on; with
``--again`` it measures all parts anew. Runs in some ten minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triaxis.execution import Share, make_executor, run_trials
from triaxis.store import open_store
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import TrialResult, TrialSpec

RESULTS = Path(__file__).parent / "results"
NODES = (1, 2, 4)
PLACES = 2
TRIAL_S = 5.0
ROUNDS = 10
NUM_TRIALS = 10_000
NUM_IMAGES = 1_000_000
NUM_FOLDERS = 1000


def specs_of(num: int) -> list[TrialSpec]:
    """Return trials that do not wait for each other; they differ in their seeds."""
    return [dataclasses.replace(chain_specs()[0], seed=seed) for seed in range(num)]


@dataclasses.dataclass(frozen=True)
class Sleeper:
    """A trial of known length."""

    seconds: float

    def __call__(self, spec: TrialSpec) -> TrialResult:
        time.sleep(self.seconds)
        return FakeTrainer()(spec)


def trials_per_hour(num_nodes: int) -> dict[str, float]:
    """Measure the speed on some nodes, after one trial for each place has started the processes."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for _ in range(num_nodes):
            cluster.add_node(num_cpus=PLACES)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        places = num_nodes * PLACES
        executor = make_executor("ray", address=cluster.address, share=Share(cpus=1))
        run_trials(executor, specs_of(places), Sleeper(TRIAL_S), lambda result: None)
        # Each session starts processes of its own for nothing but the board; the workers stay.
        start = time.perf_counter()
        done = run_trials(executor, specs_of(places * ROUNDS), Sleeper(TRIAL_S), lambda result: None)
        seconds = time.perf_counter() - start
        assert len(done) == places * ROUNDS and all(result.state == "done" for result in done)
        per_hour = 3600 * len(done) / seconds
        return {"nodes": num_nodes, "places": places, "per_hour": per_hour, "efficiency": per_hour * TRIAL_S / 3600 / places}
    finally:
        ray.shutdown()
        cluster.shutdown()


def store_of_many() -> dict[str, float]:
    """Fill a store with trials, read it, and say what that took."""
    with tempfile.TemporaryDirectory() as folder:
        path, trainer = Path(folder) / "store.sqlite", FakeTrainer()
        specs = specs_of(NUM_TRIALS)
        before = memory_mb()
        with open_store(path) as store:
            write_s = seconds_of(lambda: [store.put_trial(trainer(spec)) for spec in specs])
            read_s = seconds_of(store.trials)
            one_s = seconds_of(lambda: store.trial(specs[-1].trial_id))
        return {
            "write_ms_each": 1e3 * write_s / NUM_TRIALS,
            "read_all_s": read_s,
            "read_one_ms": 1e3 * one_s,
            "file_mb": path.stat().st_size / 1e6,
            "memory_mb": memory_mb() - before,
        }


def ray_of_many() -> dict[str, float]:
    """Take empty trials through one node, and say what each cost the driver."""
    import ray

    ray.init(num_cpus=PLACES, include_dashboard=False, log_to_driver=False)
    try:
        executor = make_executor("ray", share=Share(cpus=1))
        run_trials(executor, specs_of(PLACES), FakeTrainer(), lambda result: None)
        specs, before = specs_of(NUM_TRIALS), memory_mb()
        seconds = seconds_of(lambda: run_trials(executor, specs, FakeTrainer(), lambda result: None))
        return {"ms_each": 1e3 * seconds / NUM_TRIALS, "memory_mb": memory_mb() - before}
    finally:
        ray.shutdown()


def images_by_name() -> dict[str, float]:
    """Make a split of files that are not there, begin an epoch of it, and say what the names took."""
    import torch
    from torch import Tensor

    from triaxis.data.images import Preprocess, StreamedImages
    from triaxis.data.pictures import PictureFiles
    from triaxis.values import Recipe

    class Blank(PictureFiles):
        """Files whose pictures are all black, so that names are all that is measured."""

        def picture(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> Tensor:
            return torch.zeros(3, side_px, side_px, dtype=torch.uint8)

    before = memory_mb()
    root = Path("/data/imagenet/train")
    labels = [n % NUM_FOLDERS for n in range(NUM_IMAGES)]
    paths = [root / f"n{label:08}" / f"n{label:08}_{n}.JPEG" for n, label in enumerate(labels)]
    images = StreamedImages(Blank(paths, labels, Preprocess()), NUM_FOLDERS, Preprocess(), 32, num_workers=0)
    names_mb = memory_mb() - before
    first_s = seconds_of(lambda: next(iter(images.epoch(32, Recipe(epochs=1), seed=0, epoch=0))))
    return {"names_mb": names_mb, "epoch_mb": memory_mb() - before - names_mb, "first_batch_s": first_s}


def memory_mb() -> float:
    """Return the most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "images": images_by_name,
    "store": store_of_many,
    **{f"nodes-{num}": lambda num=num: trials_per_hour(num) for num in NODES},
    "ray": ray_of_many,
}


def in_a_process(name: str) -> dict[str, float]:
    """Measure one part in a process of its own, so that memory is that part's."""
    done = subprocess.run([sys.executable, __file__, "--part", name], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


ROWS = (
    ("store", "write_ms_each", "store: commit of one trial, ms"),
    ("store", "read_all_s", "store: read all trials, s"),
    ("store", "read_one_ms", "store: read one trial, ms"),
    ("store", "file_mb", "store: file, MB"),
    ("store", "memory_mb", "store: memory with all trials, MB"),
    ("ray", "ms_each", f"Ray, {PLACES} places: one empty trial, ms"),
    ("ray", "memory_mb", "Ray: memory of the driver with all trials, MB"),
    ("images", "names_mb", "images: memory of names and labels, MB"),
    ("images", "epoch_mb", "images: more memory while an epoch runs, MB"),
    ("images", "first_batch_s", "images: from the start of an epoch to its first batch, s"),
)


def page(found: dict[str, Any]) -> str:
    """Return the results as Markdown; a part that was not measured yet has no rows."""
    nodes = [found[f"nodes-{num}"] for num in NODES if f"nodes-{num}" in found]
    table = "\n".join(f"| {n['nodes']} | {n['places']} | {n['per_hour']:,.0f} | {n['efficiency']:.3f} | {n['load']:.1f} |" for n in nodes)
    costs = "\n".join(f"| {words} | {found[part][key]:,.2f} |" for part, key, words in ROWS if part in found)
    return f"""# Scale

Made by `python benchmarks/scale.py`; how it is measured stands at the head of that file.

{found["machine"]}. {found["note"]}

Trials that sleep for {TRIAL_S:g} s, {PLACES} places on each simulated node, {ROUNDS} rounds. The load is the machine's average
over the minute before the end of each measurement:

| nodes | places | trials per hour | efficiency | load |
| --- | --- | --- | --- | --- |
{table}

What {NUM_TRIALS:,} trials and {NUM_IMAGES:,} images' names cost the driver:

| what | measured |
| --- | --- |
{costs}
"""


def main() -> None:
    """Measure the parts that are not in the results yet, and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), help="measure one part and print it")
    parser.add_argument("--again", action="store_true", help="measure every part again")
    parser.add_argument("--note", default="", help="what else ran on the machine, for the page")
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(PARTS[chosen.part]()))
        return
    file = RESULTS / "scale.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() and not chosen.again else {}
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    for name in PARTS:
        if name not in found:
            found[name] = {**in_a_process(name), "load": os.getloadavg()[0]}
        found |= {"machine": machine, "note": chosen.note or found.get("note", "")}
        file.write_text(json.dumps(found, indent=2) + "\n")
        (RESULTS / "scale.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
