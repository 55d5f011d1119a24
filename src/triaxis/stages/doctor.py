"""What this machine offers: versions, device, threads, how fast it trains and runs a network, and which extras are missing."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

from triaxis.config import Config
from triaxis.metrics.latency import device_name, measure_latency
from triaxis.models.cifar import resnet
from triaxis.stages.environment import pick_device
from triaxis.training.machine import CpuTime, share_of_others
from triaxis.training.mode import Mode
from triaxis.training.stopwatch import in_turns, training_step

PACKAGES = ("triaxis", "torch", "torchvision", "timm", "numpy", "scipy", "safetensors", "pydantic")
NETWORK, SIDE_PX, TRAIN_BATCH, RUN_BATCH = "cifar:resnet20", 32, 128, 64
ROUNDS = 3


@dataclass(frozen=True)
class Extra:
    """Packages that are installed by ``pip install 'triaxis[NAME]'``, and the settings that need them."""

    packages: tuple[str, ...]
    needed_for: str


EXTRAS = {
    "onnx": Extra(("onnx", "onnxruntime", "onnxscript"), "export.formats: [onnx], profile.runtime: onnxruntime"),
    "openvino": Extra(("openvino",), "profile.runtime: openvino"),
    "detection": Extra(("pycocotools",), "task: detection"),
    "hub": Extra(("huggingface_hub",), "triaxis push, triaxis.load('hub:org/name')"),
    "ray": Extra(("ray",), "collect.executor: ray"),
    "tensorboard": Extra(("tensorboard",), "progress: [tensorboard]"),
}
"""Those that a user may want; a test compares them with pyproject.toml."""


def examine_machine(config: Config | None = None, *, measure: bool = True) -> dict[str, Any]:
    """Return, as plain data, what is installed and how fast this machine is.

    Args:
        config: Its `device` and `threads` are looked at; the defaults if None.
        measure: Time a training step and a forward pass of a small network too, which takes a few seconds.

    Returns:
        ``versions`` by package, None for one that is missing; ``machine``; ``extras`` by name; ``speed``, None if not measured.

    Raises:
        ConfigError: The named device is not there.
    """
    device = pick_device(config or Config())
    before = CpuTime.now()
    speed = _speed(device) if measure else None
    busy = share_of_others(before, CpuTime.now(), psutil.cpu_count() or 1)
    return {"versions": _versions(), "machine": _machine(device, busy), "extras": _extras(), "speed": speed}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _machine(device: torch.device, busy: float | None) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "system": platform.platform(),
        "device": str(device),
        "device_name": device_name(device),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory.total / 1e9, 1),
        "free_memory_gb": round(memory.available / 1e9, 1),
        "share_of_other_processes": None if busy is None else round(busy, 2),
    }


def _extras() -> dict[str, dict[str, Any]]:
    found = {}
    for name, extra in EXTRAS.items():
        missing = [package for package in extra.packages if importlib.util.find_spec(package) is None]
        found[name] = {"installed": not missing, "missing": missing, "needed_for": extra.needed_for}
    return found


def _speed(device: torch.device) -> dict[str, Any]:
    """Time ResNet-20: a training step in fp32 and, in turns with it, in bf16; then the trained network's latency."""
    network = resnet(20)
    batch = (TRAIN_BATCH, 3, SIDE_PX, SIDE_PX)
    steps = {precision: training_step(network, batch, device, Mode(precision=precision)) for precision in ("fp32", "bf16")}
    seconds = in_turns(steps, rounds=ROUNDS)
    one, many = (measure_latency(network, batch[1:], batch=size, device=device) for size in (1, RUN_BATCH))
    return {
        "network": f"{NETWORK} at {SIDE_PX} px",
        "train_images_per_s": {precision: round(TRAIN_BATCH / step) for precision, step in seconds.items()},
        "run_images_per_s": round(1e3 * RUN_BATCH / many.median_ms),
        "latency_ms": round(one.median_ms, 3),
    }
