"""PyTorch as a runtime: eager, and compiled."""

from __future__ import annotations

import copy

import torch
from torch import nn

from triaxis.errors import MissingDependencyError
from triaxis.metrics.base import Reading, Shape
from triaxis.metrics.runtimes.base import timed


class Eager:
    """PyTorch as it is, in fp32 and channels_last."""

    name = "eager"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def require(self) -> None:
        """Nothing more than torch is needed."""

    def prepare(self, model: nn.Module, input_shape: Shape, batch: int) -> Reading:
        """See `Runtime`."""
        images = torch.randn(batch, *input_shape, device=self.device).to(memory_format=torch.channels_last)
        network = self._made_ready(copy.deepcopy(model).eval().to(device=self.device).to(memory_format=torch.channels_last))

        def call() -> None:
            with torch.inference_mode():
                network(images)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return timed(call)

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
