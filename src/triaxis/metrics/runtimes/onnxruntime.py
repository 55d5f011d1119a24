"""ONNX Runtime, on the CPU with as many threads as torch uses, or as its name says."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from torch import nn

from triaxis.metrics.base import Reading, Shape
from triaxis.metrics.runtimes.base import timed
from triaxis.metrics.runtimes.onnx import require_onnx, run_onnx, write_quickly
from triaxis.metrics.runtimes.quantised import quantise_at_random


class OnnxRuntime:
    """ONNX Runtime on a file that is written from the network, in fp32 or quantised to int8."""

    name = "onnxruntime"
    precisions: tuple[str, ...] = ("fp32", "int8")

    def __init__(self, device: torch.device, threads: int | None = None, precision: str | None = None) -> None:
        del device  # the file runs on the CPU
        self.threads, self.is_int8 = threads, precision == "int8"

    def require(self) -> None:
        """Make sure that onnx, onnxscript and onnxruntime are installed.

        Raises:
            MissingDependencyError: One is not.
        """
        require_onnx()

    def prepare(self, model: nn.Module, input_shape: Shape, batch: int) -> Reading:
        """See `Runtime`."""
        images = torch.randn(batch, *input_shape)
        with tempfile.TemporaryDirectory() as folder:
            runner = run_onnx(onnx_file(Path(folder), model, input_shape, batch, is_int8=self.is_int8), threads=self.threads)
        return timed(lambda: runner(images))


def onnx_file(folder: Path, model: nn.Module, input_shape: Shape, batch: int, *, is_int8: bool = False) -> Path:
    """Write a network as ONNX into a folder, to be timed at one batch size.

    In int8 its ranges are those of random images, which is enough to time it.
    """
    plain = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    path = write_quickly(folder / "model.onnx", plain, input_shape, batch)
    return quantise_at_random(path, folder / "model_int8.onnx", input_shape, batch) if is_int8 else path
