"""ONNX Runtime, on the CPU with as many threads as torch uses."""

from __future__ import annotations

import copy

import torch
from torch import nn

from triaxis.metrics.base import Reading, Shape
from triaxis.metrics.runtimes.base import timed
from triaxis.metrics.runtimes.onnx import onnx_call, require_onnx


class OnnxRuntime:
    """ONNX Runtime on a file that is written from the network."""

    name = "onnxruntime"

    def __init__(self, device: torch.device) -> None:
        del device  # the file runs on the CPU

    def require(self) -> None:
        """Make sure that onnx, onnxscript and onnxruntime are installed.

        Raises:
            MissingDependencyError: One is not.
        """
        require_onnx()

    def prepare(self, model: nn.Module, input_shape: Shape, batch: int) -> Reading:
        """See `Runtime`."""
        network = copy.deepcopy(model).cpu().eval()
        return timed(onnx_call(network, torch.randn(batch, *input_shape)))
