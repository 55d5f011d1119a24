"""PyTorch as a runtime: eager, and compiled."""

from __future__ import annotations

import copy

import torch
from torch import nn

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

    def _made_ready(self, network: nn.Module) -> nn.Module:
        return torch.compile(network)  # type: ignore[return-value]
