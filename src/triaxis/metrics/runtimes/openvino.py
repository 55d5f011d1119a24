"""OpenVINO, on the CPU with as many threads as torch uses, or as its name says (extra ``[openvino]``)."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import torch
from torch import nn

from triaxis.errors import MissingDependencyError
from triaxis.metrics.base import Reading, Shape
from triaxis.metrics.runtimes.base import timed
from triaxis.metrics.runtimes.onnx import require_onnx
from triaxis.metrics.runtimes.onnxruntime import onnx_file


class OpenVino:
    """OpenVINO on an ONNX file that is written from the network; int8 runs the file that ONNX Runtime's tools quantised."""

    name = "openvino"
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8")

    def __init__(self, device: torch.device, threads: int | None = None, precision: str | None = None) -> None:
        del device  # the model is compiled for the CPU
        self.threads, self.precision = threads, precision or "fp32"

    def require(self) -> None:
        """Make sure that openvino, onnx, onnxscript and onnxruntime are installed.

        Raises:
            MissingDependencyError: One is not.
        """
        if importlib.util.find_spec("openvino") is None:
            raise MissingDependencyError(
                "The runtime openvino needs the package openvino: install the extra with pip install 'triaxis[openvino]'."
            )
        require_onnx()

    def prepare(self, model: nn.Module, input_shape: Shape, batch: int) -> Reading:
        """See `Runtime`."""
        import openvino

        core = openvino.Core()
        with tempfile.TemporaryDirectory() as folder:
            network = core.read_model(onnx_file(Path(folder), model, input_shape, batch, is_int8=self.precision == "int8"))
            network.reshape([batch, *input_shape])
            settings = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": self.threads or torch.get_num_threads(),
                # OpenVINO would compute in bf16 by itself where the processor can.
                "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
            }
            compiled = core.compile_model(network, "CPU", settings)
        request, images = compiled.create_infer_request(), torch.randn(batch, *input_shape).numpy()
        return timed(lambda: request.infer({0: images}))
