"""How fast triaxis trains on all cores, half of them and one, alone and beside busy processes, and what its own choice reaches.

    python benchmarks/threads.py [--quick]

Every measurement is the real training loop, fp32 and channels_last, on random pictures, in a process of its own, since the way in
which threads wait for each other is fixed when torch starts. Each round visits every network, load and way of waiting once; medians
over the rounds are reported. The load is made here: processes that do nothing but count, ended before this one ends.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from triaxis.config import Config
from triaxis.data.images import Preprocess, ResidentImages
from triaxis.metrics.latency import device_name
from triaxis.models.weights import load_model
from triaxis.stages.environment import how_to_train
from triaxis.store.files import write_json, write_text
from triaxis.store.memory import MemoryStore
from triaxis.training.loop import finetune
from triaxis.training.machine import Machine, candidates, num_threads
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe

CPU = torch.device("cpu")
CLASSES = 10
TARGET = 0.8
# (network, side in pixels, batch): the demo's, and one with a hundred times its work in a step.
NETWORKS = (("cifar:resnet20", 8, 32), ("timm:resnet18", 64, 32))
# The first is what `triaxis` sets, the second what a program gets that imports the library and sets nothing.
WAITS = {
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "library's own": {},
    "short spin": {"GOMP_SPINCOUNT": "3000"},
}
WAIT_NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# It ends with the process that started it, even if that was killed.
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"


class EnoughError(Exception):
    """The time for one measurement is over."""


@dataclass
class Stamps:
    """When the steps of a training ended."""

    seconds: float
    batch: int
    late: float = 0.0
    at_a_third: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self.times: list[float] = []

    def note(self, step: int, steps: int, *more: object) -> None:
        """Note the end of a step; after the first, and `seconds` more, the training ends."""
        self.times.append(time.perf_counter())
        if self.at_a_third and self.times[-1] - self.times[0] >= self.seconds / 3:
            self.at_a_third()
            self.at_a_third = None
        if len(self.times) > 2 and self.times[-1] - self.times[0] >= self.seconds:
            raise EnoughError

    @property
    def images_per_second(self) -> float:
        """Speed after the first step, or after the share `late` of the time."""
        begin = self.times[0] + self.late * (self.times[-1] - self.times[0])
        # The last step before `begin`, but one whole step at least.
        first = max(i for i, moment in enumerate(self.times[:-1]) if moment <= begin)
        return self.batch * (len(self.times) - 1 - first) / (self.times[-1] - self.times[first])


def train(network: torch.nn.Module, side_px: int, batch: int, stamps: Stamps, machine: Machine) -> float:
    """Train for the time that `stamps` allows, and return images per second."""
    pixels = torch.randint(0, 256, (8 * batch, 3, side_px, side_px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = ResidentImages(pixels, torch.arange(len(pixels)) % CLASSES, CLASSES, Preprocess())
    recipe = Recipe(epochs=100_000, batch_size=batch, crop_px=1, peak_lr=1e-4, clip_norm=5.0)
    with suppress(EnoughError):
        finetune(network, data, recipe, side_px=side_px, seed=0, device=CPU, mode=PLAIN, on_step=stamps.note, machine=machine)
    return stamps.images_per_second


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` cores busy."""
    loads = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for load in loads:
            load.kill()
            load.wait()


def measure(name: str, side_px: int, batch: int, num_busy: int, seconds: float) -> dict[str, Any]:
    """Return the speed on each number of threads, and of triaxis's own choice; what one child process does."""
    torch.manual_seed(0)
    network = load_model(name, {}, CLASSES, None).model
    most = torch.get_num_threads()
    fixed = {}
    with busy(num_busy):
        for count in candidates(most):
            with num_threads(count):
                fixed[str(count)] = train(network, side_px, batch, Stamps(seconds, batch), Machine())
        with num_threads():
            start = time.perf_counter()
            _, machine = how_to_train(Config(precision="fp32"), MemoryStore(), network, (batch, 3, side_px, side_px), CPU)
            took = time.perf_counter() - start
            chosen = machine.threads
            speed = train(network, side_px, batch, Stamps(seconds, batch), machine)
    return {"fixed": fixed, "chosen": chosen, "chosen_speed": speed, "choice_seconds": took}


def measure_later(name: str, side_px: int, batch: int, num_busy: int, seconds: float) -> dict[str, Any]:
    """Return the speed after a load has come in the middle of a training: after a third of it, measured in its last third."""
    torch.manual_seed(0)
    network = load_model(name, {}, CLASSES, None).model
    with num_threads(), ExitStack() as loads:
        _, machine = how_to_train(Config(precision="fp32"), MemoryStore(), network, (batch, 3, side_px, side_px), CPU)
        before = machine.threads
        stamps = Stamps(6 * seconds, batch, late=2 / 3, at_a_third=lambda: loads.enter_context(busy(num_busy)))
        speed = train(network, side_px, batch, stamps, machine)
    return {"before": before, "after": machine.threads, "speed": speed}


def child(spec: dict[str, Any], wait: str) -> dict[str, Any]:
    """Measure in a new process, whose threads wait as said."""
    environment = {key: value for key, value in os.environ.items() if key not in WAIT_NAMES} | WAITS[wait]
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(spec)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"A measurement failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def collect(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure everything, round by round, and return one row for each network, load and way of waiting."""
    found: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
    for turn in range(options.rounds):
        for n, (name, side_px, batch) in enumerate(NETWORKS):
            for num_busy in (0, options.busy):
                for wait in WAITS:
                    spec = {"name": name, "side_px": side_px, "batch": batch, "num_busy": num_busy, "seconds": options.seconds}
                    found.setdefault((n, num_busy, wait), []).append(child(spec, wait))
                    print(f"round {turn + 1}: {name}, {num_busy} busy, {wait}: {found[n, num_busy, wait][-1]}", file=sys.stderr, flush=True)
    return with_shares([row(NETWORKS[n], num_busy, wait, runs) for (n, num_busy, wait), runs in found.items()])


def row(network: tuple[str, int, int], num_busy: int, wait: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the rounds."""
    return {
        "network": network[0],
        "side_px": network[1],
        "batch": network[2],
        "busy": num_busy,
        "wait": wait,
        "images_per_second": {count: statistics.median(run["fixed"][count] for run in runs) for count in runs[0]["fixed"]},
        "default": statistics.median(run["chosen_speed"] for run in runs),
        "default_threads": [run["chosen"] for run in runs],
        "choice_seconds": statistics.median(run["choice_seconds"] for run in runs),
    }


def with_shares(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add each default's share of the best choice: the fastest of all threads and ways of waiting under the same load."""

    def best(like: dict[str, Any]) -> float:
        same = [r for r in rows if (r["network"], r["busy"]) == (like["network"], like["busy"])]
        return max(speed for r in same for speed in r["images_per_second"].values())

    return [{**r, "share_of_best": r["default"] / best(r)} for r in rows]


def later(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Measure a load that comes in the middle of a training, with threads that wait passively."""
    found = []
    for name, side_px, batch in NETWORKS:
        seconds = max(options.seconds, options.patience)
        spec = {"name": name, "side_px": side_px, "batch": batch, "num_busy": options.busy, "seconds": seconds}
        result = child(spec | {"later": True}, "passive")
        loaded = [r for r in rows if r["network"] == name and r["busy"] == options.busy]
        best = max(speed for r in loaded for speed in r["images_per_second"].values())
        found.append({"network": name, **result, "share_of_best": result["speed"] / best})
    return found


def markdown(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    counts = list(result["rows"][0]["images_per_second"])
    head = " | ".join(f"{count} threads" if count != "1" else "1 thread" for count in counts)
    lines = [
        f"| {r['network']}, {r['side_px']} px | {r['busy']} | {r['wait']} | "
        + " | ".join(f"{r['images_per_second'][count]:,.0f}" for count in counts)
        + f" | {r['default']:,.0f} on {', '.join(map(str, r['default_threads']))} | {r['share_of_best']:.0%} |"
        for r in result["rows"]
    ]
    afterwards = [
        f"| {r['network']} | {r['before']} | {r['after']} | {r['speed']:,.0f} | {r['share_of_best']:.0%} |" for r in result["later"]
    ]
    ours = [r["share_of_best"] for r in result["rows"] if r["wait"] == "passive"]
    verdict = "reached" if min(ours) >= TARGET else "missed"
    return "\n".join(
        [
            "# Threads\n\nMade by `python benchmarks/threads.py`; its docstring says how it is measured.\n",
            f"{result['device']}, {result['cores']} cores, torch {result['versions']['torch']}, {result['rounds']} rounds of "
            f"{result['seconds']:g} s, fp32. Images per second; `passive` is what the command line sets.\n",
            f"| network | busy processes | threads wait | {head} | default, on threads | share of the best |",
            "| --- " * (len(counts) + 5) + "|",
            *lines,
            f"\nWith passive waiting the default reaches at least {min(ours):.0%} of the best choice; "
            f"the target of {TARGET:.0%} is {verdict}.",
            "\n## A load that comes in the middle of a training\n",
            "| network | threads before | threads after | images per second | share of the best under load |",
            "| --- | --- | --- | --- | --- |",
            *afterwards,
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round, to try the benchmark itself")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=1, help="processes of the load")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds of a sixth of the training into which a load comes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        spec = dict(options.child)
        print(json.dumps(measure_later(**spec) if spec.pop("later", False) else measure(**spec)))
        return 0
    if options.quick:
        options.seconds, options.rounds, options.patience = 0.3, 1, 2.0
    rows = collect(options)
    result = {
        "schema": 1,
        "device": device_name(CPU),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in ("torch", "triaxis")},
        "seconds": options.seconds,
        "rounds": options.rounds,
        "rows": rows,
        "later": later(options, rows),
    }
    write_json(options.out / "threads.json", result)
    write_text(options.out / "threads.md", markdown(result))
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
