"""Precision and memory format: chosen by measuring a few training steps on the device."""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from triaxis.training.logits import main_logits
from triaxis.values import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode(Value):
    """How networks are trained on one device."""

    precision: str = "fp32"
    memory_format: str = "channels_last"

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """Return the context that the forward pass runs in."""
        if self.precision == "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    @property
    def torch_format(self) -> torch.memory_format:
        """The memory format of images and weights."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def place(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Move `model` to the device and the memory format, in place, and return it."""
        return model.to(device=device).to(memory_format=self.torch_format)


PLAIN = Mode()
CANDIDATES = (
    Mode(precision="bf16", memory_format="channels_last"),
    Mode(precision="fp32", memory_format="channels_last"),
    Mode(precision="fp32", memory_format="contiguous"),
)


def choose_mode(
    model: nn.Module, input_shape: tuple[int, int, int, int], device: torch.device, steps: int = 3, precision: str = "auto"
) -> tuple[Mode, dict[str, float]]:
    """Return the fastest mode for training `model`, and the median seconds of a step in each.

    Args:
        model: The network; it is copied, not changed.
        input_shape: (B, C, S, S) of a training batch.
        device: Where training will happen.
        steps: Timed steps per mode, after one that warms up.
        precision: ``auto``, or the only one to try.
    """
    seconds = {}
    candidates = [mode for mode in CANDIDATES if precision in ("auto", mode.precision)]
    for mode in candidates:
        trial = mode.place(copy.deepcopy(model), device).train()
        seconds[f"{mode.precision} {mode.memory_format}"] = _step_seconds(trial, input_shape, device, mode, steps)
    best = min(candidates, key=lambda mode: seconds[f"{mode.precision} {mode.memory_format}"])
    return best, seconds


def _step_seconds(model: nn.Module, input_shape: tuple[int, int, int, int], device: torch.device, mode: Mode, steps: int) -> float:
    images = torch.randn(input_shape, device=device).to(memory_format=mode.torch_format)
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        with mode.autocast(device):
            loss = main_logits(model(images)).float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
