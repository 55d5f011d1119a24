"""How long one training step takes, in each of several ways, timed in turns so that other work on the machine hits all alike."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triaxis.process.convolutions import guard
from triaxis.tasks import Task, mapped
from triaxis.tasks.outputs import main_output, named_tensors
from triaxis.values import Recipe

if TYPE_CHECKING:
    from triaxis.training.mode import Mode

Way = TypeVar("Way", bound=Hashable)

LossOf = Callable[[nn.Module, Tensor], Tensor]
"""Runs a network in training mode on images (B, C, S, S), and returns a loss."""

VISIT_S = 0.1
"""Seconds of one visit; the first step of a visit finds cold caches and sleeping threads, and counts only where steps are slow."""

SLOW_STEP_S = 0.25
HOPELESS = 4.0
"""A way whose first visit was this many times slower than the best one's is not visited again."""


def squares(model: nn.Module, images: Tensor) -> Tensor:
    """Return a loss of any model's main output, or of all that it returns: the mean squares."""
    parts = [part for part in named_tensors(main_output(model(images))).values() if part.requires_grad]
    return torch.stack([F.mse_loss(part.float(), torch.zeros_like(part, dtype=torch.float32)) for part in parts]).sum()


@dataclass(frozen=True)
class TaskLoss:
    """The task's own loss on some targets (N, ...), taken again and again until they suffice for a batch.

    A model that computes its own loss runs in training mode only so.
    """

    task: Task
    targets: Tensor

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        wanted = self.targets[torch.arange(len(images)) % len(self.targets)].to(images.device)
        return self.task.loss(mapped(self.task.forward(model, images, wanted), Tensor.float), wanted, Recipe())


def training_step(
    model: nn.Module, input_shape: tuple[int, int, int, int], device: torch.device, mode: Mode, loss_of: LossOf = squares
) -> Callable[[], float]:
    """Return a call that trains a copy of `model` for one step on random images, and returns its seconds.

    Args:
        model: The network; it is copied, not changed.
        input_shape: (B, C, S, S) of a training batch.
        device: Where training happens.
        mode: Precision and memory format.
        loss_of: Runs the network, and gives the loss.
    """
    trained = mode.place(copy.deepcopy(model), device).train()
    guard(trained)
    optimizer = torch.optim.SGD((p for p in trained.parameters() if p.requires_grad), lr=0.01, momentum=0.9)
    images = torch.randn(input_shape, device=device, generator=torch.Generator(device).manual_seed(0))
    images = images.to(memory_format=mode.torch_format)

    def step() -> float:
        start = time.perf_counter()
        with mode.autocast(device):
            loss = loss_of(trained, images)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return step


def in_turns(
    steps: Mapping[Way, Callable[[], float]], *, rounds: int = 5, limit_s: float = 10.0, clock: Callable[[], float] = time.perf_counter
) -> dict[Way, float]:
    """Return the median seconds of a step in each way, visited one after the other, again and again.

    Args:
        steps: For each way, does one step and returns its seconds.
        rounds: Visits of each way at most, after one that warms up.
        limit_s: After this time no new round begins. Where the steps that warm up took that long, they are slow enough to count.
        clock: Gives the time in seconds.
    """
    start = clock()
    warm = {way: step() for way, step in steps.items()}
    times: dict[Way, list[float]] = {way: [] for way in steps}
    for _ in range(rounds):
        if clock() - start > limit_s:
            break
        best = min(statistics.median(found) if found else warm[way] for way, found in times.items())
        for way, step in steps.items():
            if not times[way] or statistics.median(times[way]) <= HOPELESS * best:
                times[way].append(_visit(step))
    return {way: statistics.median(found or [warm[way]]) for way, found in times.items()}


def _visit(step: Callable[[], float]) -> float:
    first = step()
    if first >= SLOW_STEP_S:
        return first
    times = [step()]
    while sum(times) < VISIT_S:
        times.append(step())
    return statistics.median(times)
