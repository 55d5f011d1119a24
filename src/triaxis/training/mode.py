"""Precision and memory format of training, chosen by rule, since they decide the weights that come out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from triaxis.training.stopwatch import LossOf, in_turns, squares, training_step
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
    PLAIN,
    Mode(precision="bf16", memory_format="channels_last"),
    Mode(precision="fp32", memory_format="contiguous"),
)

MIN_GAIN = 0.2
"""The plain mode is left for one that makes more than this share more steps a second."""


def choose_mode(
    model: nn.Module,
    input_shape: tuple[int, int, int, int],
    device: torch.device,
    precision: str = "auto",
    time_all: Callable[[Mapping[Mode, Callable[[], float]]], Mapping[Mode, float]] = in_turns,
    loss_of: LossOf = squares,
) -> tuple[Mode, dict[str, float]]:
    """Return the mode to train `model` in, and the median seconds of a step in each that was timed.

    A precision that is named is a rule: channels_last, and nothing is timed. ``auto`` is fp32 and channels_last, unless
    another mode makes over 20 % more steps a second, timed in turns.

    Args:
        model: The network; it is copied, not changed.
        input_shape: (B, C, S, S) of a training batch.
        device: Where training will happen.
        precision: ``auto``, ``fp32`` or ``bf16``.
        time_all: Times the steps of all modes.
        loss_of: Runs the network in a step, and gives the loss.
    """
    if precision != "auto":
        return Mode(precision=precision), {}
    seconds = time_all({mode: training_step(model, input_shape, device, mode, loss_of) for mode in CANDIDATES})
    best = min(CANDIDATES, key=lambda mode: seconds[mode])
    chosen = best if seconds[PLAIN] > (1 + MIN_GAIN) * seconds[best] else PLAIN
    return chosen, {words(mode): found for mode, found in seconds.items()}


def words(mode: Mode) -> str:
    """Return a mode as text, such as ``fp32 channels_last``."""
    return f"{mode.precision} {mode.memory_format}"
