"""How fast triaxis trains, beside a plain PyTorch loop on the same network and machine, in one run.

    python benchmarks/throughput.py [--network cifar:resnet20]

The pictures are random: no speed here depends on what they show. Both loops crop, flip, normalise and take the same step (SGD
with momentum); they are timed in turns, so that a machine's drift cancels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from triaxis.data.images import Preprocess, ResidentImages
from triaxis.metrics.latency import device_name
from triaxis.metrics.macs import count_macs
from triaxis.models.weights import load_model
from triaxis.store.files import write_json, write_text
from triaxis.training.loop import finetune
from triaxis.training.mode import Mode, choose_mode
from triaxis.values import Recipe

SIDE_PX, CLASSES = 32, 10
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
WARMUP_STEPS = 3
# Dense bf16 peak in TFLOP/s, as the makers' data sheets give it.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.0}


class Pictures(Dataset):
    """(image, label) pairs as torchvision's CIFAR-10 gives them: arrays in memory, a PIL image and its transforms at each access."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels
        steps = [transforms.RandomCrop(SIDE_PX, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.transform = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def step_seconds(stamps: Sequence[float]) -> float:
    """Return the mean seconds of a step from the times at which steps ended, without those that warm up."""
    return (stamps[-1] - stamps[WARMUP_STEPS]) / (len(stamps) - 1 - WARMUP_STEPS)


def plain_loop(model: nn.Module, data: Pictures, recipe: Recipe, device: torch.device, workers: int) -> float:
    """Return the seconds of a step of the loop that a tutorial shows: fp32, contiguous, DataLoader, PIL."""
    model = model.to(device).train()
    loader = DataLoader(data, batch_size=recipe.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.peak_lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    stamps = []
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        loss.item()
        stamps.append(time.perf_counter())
    return step_seconds(stamps)


def our_loop(model: nn.Module, data: ResidentImages, recipe: Recipe, device: torch.device, mode: Mode) -> float:
    """Return the seconds of a step of triaxis's trainer."""
    stamps: list[float] = []

    def on_step(step: int, steps: int, loss: torch.Tensor) -> None:
        if device.type == "cuda" and step in (WARMUP_STEPS + 1, steps):
            torch.cuda.synchronize(device)
        stamps.append(time.perf_counter())

    finetune(model, data, recipe, side_px=SIDE_PX, seed=0, device=device, mode=mode, on_step=on_step, calibrate_images=recipe.batch_size)
    return step_seconds(stamps)


def model_alone(model: nn.Module, batch_size: int, device: torch.device, mode: Mode, steps: int) -> float:
    """Return the seconds of forward and backward on one fixed batch: the time that no trainer can save."""
    model = mode.place(model, device).train()
    images = torch.randn(batch_size, 3, SIDE_PX, SIDE_PX, device=device).to(memory_format=mode.torch_format)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    stamps = []
    for _ in range(steps):
        model.zero_grad(set_to_none=True)
        with mode.autocast(device):
            output = model(images)
        F.cross_entropy(output.float(), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        stamps.append(time.perf_counter())
    return step_seconds(stamps)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time everything in turns and return the results as plain data."""
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    random = np.random.default_rng(0)
    count = options.steps * options.batch
    pixels = random.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    labels = random.integers(0, CLASSES, count)
    preprocess = Preprocess(mean=MEAN, std=STD)
    resident = ResidentImages(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels), CLASSES, preprocess)
    recipe = Recipe(epochs=1, batch_size=options.batch)
    mode, _ = choose_mode(fresh(options.network), (min(options.batch, 64), 3, SIDE_PX, SIDE_PX), device)
    pictures, images = Pictures(pixels, labels), resident.to(device)
    parts: dict[str, Callable[[], float]] = {
        f"plain loop, {workers} workers": (lambda w=workers: plain_loop(fresh(options.network), pictures, recipe, device, w))  # type: ignore[misc]
        for workers in options.workers
    }
    parts["triaxis"] = lambda: our_loop(fresh(options.network), images, recipe, device, mode)
    parts["forward and backward alone"] = lambda: model_alone(fresh(options.network), options.batch, device, mode, options.steps)
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for name, part in in_turns(parts, options.rounds):
        seconds[name].append(part())
    return summary(options, {name: statistics.median(found) for name, found in seconds.items()}, mode, device)


def in_turns(parts: dict[str, Callable[[], float]], rounds: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield every part, `rounds` times over."""
    for _ in range(rounds):
        yield from parts.items()


def fresh(name: str) -> nn.Module:
    """Return the untrained network, always with the same weights."""
    torch.manual_seed(0)
    return load_model(name, {}, CLASSES, None).model


def summary(options: argparse.Namespace, seconds: dict[str, float], mode: Mode, device: torch.device) -> dict[str, Any]:
    """Return images per second, the ratios, and on a GPU the share of its peak."""
    plain = min(found for name, found in seconds.items() if name.startswith("plain"))
    macs = count_macs(fresh(options.network), (3, SIDE_PX, SIDE_PX))
    rate = options.batch / seconds["triaxis"]
    # A step is a forward pass and two of its size backward; a multiply-accumulate is two operations.
    teraflops = 3 * 2 * macs * rate / 1e12
    name = device_name(device)
    peak = options.peak or next((top for key, top in PEAKS.items() if key in name), None) if device.type == "cuda" else None
    return {
        "schema": 1,
        "network": options.network,
        "batch": options.batch,
        "device": name,
        "threads": torch.get_num_threads(),
        "mode": mode.to_json(),
        "versions": {package: version(package) for package in ("torch", "torchvision", "triaxis")},
        "steps": options.steps,
        "rounds": options.rounds,
        "images_per_second": {part: options.batch / found for part, found in seconds.items()},
        "speedup_over_plain": plain / seconds["triaxis"],
        "share_in_model": seconds["forward and backward alone"] / seconds["triaxis"],
        "tflops": teraflops,
        "share_of_peak": teraflops / peak if peak else None,
    }


def markdown(found: dict[str, Any]) -> str:
    """Return the results as a page."""
    rows = "\n".join(f"| {part} | {rate:,.0f} |" for part, rate in found["images_per_second"].items())
    mode = found["mode"]
    peak = f" That is {found['share_of_peak']:.1%} of the device's bf16 peak." if found["share_of_peak"] is not None else ""
    return (
        "# Trainer throughput\n\nMade by `python benchmarks/throughput.py`; how it is measured stands in [README.md](../README.md).\n\n"
        f"{found['network']}, batch {found['batch']}, {found['device']}, {found['threads']} threads, torch {found['versions']['torch']}; "
        f"triaxis chose {mode['precision']} and {mode['memory_format']}.\n\n"
        f"| loop | images per second |\n| --- | --- |\n{rows}\n\n"
        f"triaxis trains {found['speedup_over_plain']:.2f} x as fast as the faster plain loop, and spends {found['share_in_model']:.1%} "
        f"of its time in the network's own forward and backward ({found['tflops']:.3f} TFLOP/s).{peak}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="cifar:resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30, help="training steps of each loop in each round; the first few are not timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="DataLoader workers of the plain loop; the faster counts")
    parser.add_argument("--cpu", action="store_true", help="use the CPU also where there is a GPU")
    parser.add_argument("--peak", type=float, help="the GPU's bf16 peak in TFLOP/s, where it is not known here")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    if options.steps < WARMUP_STEPS + 2:
        parser.error(f"--steps must be at least {WARMUP_STEPS + 2}, got {options.steps}: the first {WARMUP_STEPS} only warm up.")
    found = measure(options)
    write_json(options.out / "throughput.json", found)
    write_text(options.out / "throughput.md", markdown(found))
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
