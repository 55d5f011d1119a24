"""PyTorch as a runtime: eager, and compiled."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from triaxis.errors import MissingDependencyError
from triaxis.metrics.base import Reading, Shape
from triaxis.metrics.runtimes.base import timed


@contextmanager
def on_threads(threads: int | None) -> Iterator[None]:
    """Let torch work on so many threads, and put back what was; None changes nothing."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Eager:
    """PyTorch as it is, in channels_last."""

    name = "eager"
    precisions: tuple[str, ...] = ("fp32", "bf16")

    def __init__(self, device: torch.device, threads: int | None = None, precision: str | None = None) -> None:
        self.device, self.threads = device, threads
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def require(self) -> None:
        """Nothing more than torch is needed."""

    def prepare(self, model: nn.Module, input_shape: Shape, batch: int) -> Reading:
        """See `Runtime`."""
        place = {"device": self.device, "dtype": self.dtype, "memory_format": torch.channels_last}
        images = torch.randn(batch, *input_shape).to(**place)  # type: ignore[call-overload]
        network = self._made_ready(copy.deepcopy(model).eval().to(**place))  # type: ignore[call-overload]

        def call() -> None:
            with torch.inference_mode():
                network(images)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        with on_threads(self.threads):
            reading = timed(call)

        def on_its_threads() -> float:
            # Changing the number takes microseconds, and is not timed.
            with on_threads(self.threads):
                return reading()

        return on_its_threads

    def _made_ready(self, network: nn.Module) -> nn.Module:
        return network


class Compiled(Eager):
    """PyTorch after ``torch.compile``."""

    name = "compile"

    def require(self) -> None:
        """Make sure that torch.compile finds the compiler it needs, by compiling next to nothing.

        Raises:
            MissingDependencyError: It does not.
        """
        try:
            with torch.no_grad():
                torch.compile(nn.Linear(2, 2).to(self.device))(torch.zeros(2, 2, device=self.device))
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise MissingDependencyError(
                f"The runtime compile needs a compiler that torch.compile can use, got: {reason}: "
                "install one (g++ on Linux), or set profile.runtime: eager."
            ) from error

    def _made_ready(self, network: nn.Module) -> nn.Module:
        return torch.compile(network)  # type: ignore[return-value]
