"""What it costs to be safe: the time that saved states, checkpoints and commits take from training.

    python benchmarks/safety.py [--network cifar:resnet20] [--seconds 60]

One training in turns with and without a file for its state, on random pictures (no speed depends on what they show), on an
otherwise idle machine; and one by one what else a run writes. ``results/safety.json`` and ``results/safety.md``.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from triaxis.config import Config
from triaxis.data.images import Preprocess, ResidentImages
from triaxis.metrics.latency import device_name
from triaxis.models.weights import load_model
from triaxis.stages.environment import pick_device
from triaxis.store import open_store
from triaxis.store.checkpoints import save_checkpoint
from triaxis.store.files import write_json, write_text
from triaxis.tasks import CLASSIFICATION
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.training.loop import Loop, finetune
from triaxis.training.machine import Machine
from triaxis.training.mode import Mode
from triaxis.training.resume import write_resume
from triaxis.training.saving import snapshot
from triaxis.values import Recipe

RESULTS = Path(__file__).parent / "results"
LIMIT = 0.02
EPOCHS, ROUNDS = 4, 5


def images(num: int, side_px: int, device: torch.device) -> ResidentImages:
    """Return random pictures of ten classes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num, 3, side_px, side_px), generator=generator, dtype=torch.uint8)
    return ResidentImages(pixels, torch.arange(num) % 10, 10, Preprocess()).to(device)


def seconds_of(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(network: str, side_px: int, seconds: float, device: torch.device, folder: Path) -> dict[str, Any]:
    """Return the seconds of trainings with and without safety, and of each thing that is written."""
    recipe = Recipe(epochs=EPOCHS, batch_size=128, crop_px=4)
    made = load_model(network, {}, 10, None).model.to(device)
    few = images(3 * recipe.batch_size, side_px, device)

    def train(data: ResidentImages, path: Path | None, save_s: float = 600.0) -> float:
        return finetune(
            made, data, recipe, side_px=side_px, seed=0, device=device, mode=Mode(), resume_path=path, calibrate_images=128, save_s=save_s
        ).seconds

    train(few, None)
    step_s = train(few, None) / (3 * EPOCHS)
    data = images(recipe.batch_size * max(2, round(seconds / step_s / EPOCHS)), side_px, device)
    without, safe, often = [], [], []
    for _ in range(ROUNDS):
        without.append(train(data, None))
        safe.append(train(data, folder / "a.resume"))
        often.append(train(data, folder / "b.resume", save_s=seconds / 10))
    loop = Loop(made, data, recipe, side_px, 0, device, Mode(), None, None, Machine(), 600.0, CLASSIFICATION)
    state = {"model": made.state_dict(), "optimizer": loop.optimizer.state_dict()}
    with open_store(folder / "store.sqlite") as store:
        results = [FakeTrainer()(spec) for spec in chain_specs()]
        commits = [seconds_of(functools.partial(store.put_trial, result)) for result in results]
    return {
        "without_s": without,
        "safe_s": safe,
        "ten_states_s": often,
        "share": statistics.median(safe) / statistics.median(without) - 1,
        "share_of_ten_states": statistics.median(often) / statistics.median(without) - 1,
        "spread": (max(without) - min(without)) / statistics.median(without),
        "copy_s": statistics.median(seconds_of(lambda: snapshot(state)) for _ in range(ROUNDS)),
        "background_write_s": statistics.median(seconds_of(lambda: write_resume(folder / "c.resume", state)) for _ in range(ROUNDS)),
        "checkpoint_s": statistics.median(
            seconds_of(lambda: save_checkpoint(folder / "d.safetensors", made.state_dict())) for _ in range(ROUNDS)
        ),
        "commit_s": statistics.median(commits),
        "state_bytes": (folder / "c.resume").stat().st_size,
    }


def page(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    numbers = found["numbers"]
    verdict = "held" if numbers["share"] <= LIMIT else "NOT held"
    lines = [
        "# What safety costs",
        "",
        f"{found['machine']}; {found['network']} at {found['side_px']} px, batches of 128. "
        f"`python benchmarks/safety.py`; medians of {ROUNDS} trainings in turns.",
        "",
        "| | |",
        "|---|---:|",
        f"| a training without any state saved | {statistics.median(numbers['without_s']):.1f} s |",
        f"| its spread over the rounds | {numbers['spread']:.1%} |",
        f"| the same with its state saved as a run does (limit {LIMIT:.0%}: {verdict}) | {numbers['share']:+.2%} |",
        f"| the same with a state every tenth of it | {numbers['share_of_ten_states']:+.2%} |",
        f"| one copy of the state on the training's thread | {1e3 * numbers['copy_s']:.1f} ms |",
        f"| writing it in the background, {numbers['state_bytes'] / 2**20:.1f} MiB | {1e3 * numbers['background_write_s']:.1f} ms |",
        f"| the checkpoint at the end of a trial | {1e3 * numbers['checkpoint_s']:.1f} ms |",
        f"| the commit of a trial, to both copies of the store | {1e3 * numbers['commit_s']:.1f} ms |",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cifar:resnet20")
    parser.add_argument("--side-px", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0, help="of one training")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--results", type=Path, default=RESULTS / "safety.json")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = pick_device(Config())
    with tempfile.TemporaryDirectory(dir=".") as folder:
        numbers = measured(options.network, options.side_px, options.seconds, device, Path(folder))
    machine = f"{device_name(device)}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.system()}"
    versions = {name: version(name) for name in ("torch", "triaxis")}
    found = {"machine": machine, "versions": versions, "network": options.network, "side_px": options.side_px, "numbers": numbers}
    write_json(options.results, found)
    write_text(options.results.with_suffix(".md"), page(found))
    print(page(found))


if __name__ == "__main__":
    main()
