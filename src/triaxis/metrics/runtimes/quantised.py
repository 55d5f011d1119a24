"""INT8: an ONNX file quantised by ONNX Runtime's own tools, static, QDQ, with a scale for each output channel of a weight.

The ranges of the activations are those that calibration images show. Which types run fast depends on the processor; these
are what ONNX Runtime's documentation advises for each.
"""

from __future__ import annotations

import inspect
import logging
import platform
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triaxis.metrics.base import Shape
from triaxis.metrics.runtimes.onnx import require_onnx

QUANTISED_OPS = ("Conv", "Gemm", "MatMul")
"""Operators with weights; one that stays in fp32 is named by its node."""


class Quantiser:
    """Quantises one ONNX file, as often as is asked, with ranges that are measured once.

    Args:
        path: The fp32 file, as `write_onnx` writes it.
        folder: Keeps the prepared file and the ranges.
        batches: Calibration images (B, C, S, S), normalised.
    """

    def __init__(self, path: Path, folder: Path, batches: Iterable[Tensor]) -> None:
        require_onnx()
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.prepared, self._ranges, self._batches = folder / "prepared.onnx", folder / "ranges.json", [b.numpy() for b in batches]
        # Folds batch norms into convolutions, so that both are quantised as one.
        quant_pre_process(str(path), str(self.prepared), skip_symbolic_shape=True)
        graph = onnx.load(self.prepared).graph
        self.input_name = graph.input[0].name
        self.nodes: tuple[str, ...] = tuple(node.name for node in graph.node if node.op_type in QUANTISED_OPS)
        named = _layers(onnx.load(path).graph)
        self.layers = {node: named.get(node, node) for node in self.nodes}

    def write(self, path: Path, *, keep: Sequence[str] = (), only: Sequence[str] | None = None) -> Path:
        """Write the quantised file.

        Args:
            path: Where to.
            keep: Nodes that stay in fp32.
            only: Quantise these nodes and no other; None takes all but `keep`.
        """
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        is_arm = platform.machine().lower() in ("arm64", "aarch64")
        asked: dict[str, Any] = {"nodes_to_exclude": list(keep)} if only is None else {"nodes_to_quantize": list(only)}
        if "calibration_cache_path" in inspect.signature(quantize_static).parameters:
            asked["calibration_cache_path"] = self._ranges
        with _quiet():
            quantize_static(
                str(self.prepared),
                str(path),
                _Reader(self.input_name, self._batches),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=not is_arm and not _adds_without_overflow(),
                activation_type=QuantType.QInt8 if is_arm else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                **asked,
            )
        return path


def quantise_at_random(path: Path, out: Path, input_shape: Shape, batch: int) -> Path:
    """Write the file quantised with the ranges of random images: as fast as a calibrated one, and of no use otherwise.

    Args:
        path: The fp32 file.
        out: The quantised file.
        input_shape: (C, S, S).
        batch: Images in a pass of the file.
    """
    images = torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        return Quantiser(path, Path(folder), [images]).write(out)


def _layers(graph: Any) -> dict[str, str]:
    """Return the layer that each node came from: its weight is called after it."""
    weights = {tensor.name for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        own = [name.removesuffix(".weight") for name in node.input if name in weights and name.endswith(".weight")]
        if own:
            found[node.name] = own[0]
    return found


class _Reader:
    """Calibration images, as onnxruntime asks for them."""

    def __init__(self, name: str, batches: Sequence[Any]) -> None:
        self._name, self._left = name, iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by the input's name, or None."""
        batch = next(self._left, None)
        return None if batch is None else {self._name: batch}


def _adds_without_overflow() -> bool:
    """Whether products of 8-bit numbers are added up in 32 bits, as processors with VNNI do; others need 7-bit weights."""
    info = Path("/proc/cpuinfo")
    return not info.exists() or "vnni" in info.read_text()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the remarks of onnxruntime's tools, which go to the root logger, out of the run's log."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
