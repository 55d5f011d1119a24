"""INT8: the compressed model as an ONNX file whose weights and activations have 8 bits, checked on val images.

Layers that cost accuracy stay in fp32. How much a layer costs is seen on its own: the logits' error when it alone is
quantised. The layers with the largest errors are put back, one, two, four, ..., until the val accuracy is within the
tolerance, and then as few of them as suffice.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.deliver.onnx import write_onnx_file
from triaxis.errors import ExportError, TriaxisError
from triaxis.metrics.runtimes.onnx import run_onnx
from triaxis.metrics.runtimes.quantised import Quantiser
from triaxis.models.detector import exported
from triaxis.store.files import write_atomic
from triaxis.surgery.cut.sides import first_line
from triaxis.tasks.outputs import named_tensors
from triaxis.values.score import score_of

log = logging.getLogger(__name__)

INT8_FORM, INT8_FILE = "onnx-int8", "model_int8.onnx"

TOLERANCE = 0.003
"""Val accuracy that int8 may cost before layers are put back into fp32."""

Runner = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Int8File:
    """The file, its score, that of the same network in fp32, and the layers that stayed in fp32."""

    path: Path
    score: float
    score_fp32: float
    kept: tuple[str, ...]


def write_int8(
    path: Path,
    model: nn.Module,
    description: Mapping[str, Any],
    calibration: Iterable[Tensor],
    score: Callable[[Runner], float],
    *,
    tolerance: float = TOLERANCE,
) -> Int8File:
    """Write the quantised model.

    Args:
        path: The file to write, atomically.
        model: The compressed network; it is copied, not changed.
        description: What ``plan.json`` says; `input` is (C, S, S).
        calibration: Batches (B, C, S, S) of train images, normalised.
        score: Returns the val accuracy of what turns images into logits.
        tolerance: Accuracy that may be lost before layers stay in fp32.

    Raises:
        ExportError: The model cannot be written or quantised.
        MissingDependencyError: The extra ``[onnx]`` is missing.
    """
    live = exported(copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format))
    batches = [batch.contiguous() for batch in calibration]
    with tempfile.TemporaryDirectory(prefix="triaxis-") as name:
        folder = Path(name)
        plain = write_onnx_file(folder / "model.onnx", live, dict(description))
        try:
            quantiser = Quantiser(plain, folder, batches)
            search = _Search(quantiser, folder / INT8_FILE, score, score(run_onnx(plain)) - tolerance)
            kept = search.fewest(lambda: _by_error(quantiser, folder / "one.onnx", run_onnx(plain), batches[0]))
        except (TriaxisError, OSError):
            raise
        except Exception as error:
            raise ExportError(
                f"{path} must be quantised by onnxruntime, but the model is refused: {first_line(error)}: keep the other formats."
            ) from error
        quantiser.write(search.path, keep=kept)
        data = _described(search.path, description)
        write_atomic(path, lambda temporary: _fill(temporary, data))
    found = Int8File(path, search.scores[kept], search.enough + tolerance, tuple(quantiser.layers[node] for node in kept))
    if found.kept:
        log.info("%s keeps %s in fp32", path.name, ", ".join(found.kept))
    if found.score < search.enough:
        log.warning(
            "%s loses %.2f points of val %s, whichever layers stay in fp32",
            path.name,
            100 * (found.score_fp32 - found.score),
            score_of(description.get("task")),
        )
    return found


class _Search:
    """Scores of the model with some nodes kept in fp32; each is quantised once."""

    def __init__(self, quantiser: Quantiser, path: Path, score: Callable[[Runner], float], enough: float) -> None:
        self.quantiser, self.path, self.enough = quantiser, path, enough
        self._score = score
        self.scores: dict[tuple[str, ...], float] = {}

    def is_enough(self, keep: tuple[str, ...]) -> bool:
        """Whether the model is accurate enough with these nodes in fp32."""
        if keep not in self.scores:
            self.scores[keep] = self._score(run_onnx(self.quantiser.write(self.path, keep=keep)))
        return self.scores[keep] >= self.enough

    def fewest(self, worst_first: Callable[[], Sequence[str]]) -> tuple[str, ...]:
        """Return as few of the worst nodes as suffice; where none do, those with the best score."""
        if self.is_enough(()):
            return ()
        nodes = tuple(worst_first())
        # One node stays quantised: else the file would not be an int8 one.
        most, too_few, num = len(nodes) - 1, 0, min(1, len(nodes) - 1)
        while not self.is_enough(nodes[:num]):
            if num >= most:
                return max(self.scores, key=lambda keep: (self.scores[keep], -len(keep)))
            too_few, num = num, min(2 * num, most)
        while num - too_few > 1:
            middle = (num + too_few) // 2
            too_few, num = (too_few, middle) if self.is_enough(nodes[:middle]) else (middle, num)
        return nodes[:num]


def _by_error(quantiser: Quantiser, path: Path, reference: Runner, images: Tensor) -> list[str]:
    """Return the nodes by the outputs' mean squared error when one alone is quantised, the largest first."""
    expected = named_tensors(reference(images)).values()

    def error(node: str) -> float:
        found = named_tensors(run_onnx(quantiser.write(path, only=[node]))(images)).values()
        return sum((a.float() - b.float()).square().mean().item() for a, b in zip(found, expected, strict=True))

    errors = {node: error(node) for node in quantiser.nodes}
    return sorted(errors, key=lambda node: -errors[node])


def _described(path: Path, description: Mapping[str, Any]) -> bytes:
    """Return the file with the metadata of the fp32 one, which quantising drops."""
    import onnx

    proto = onnx.load(path)
    del proto.metadata_props[:]
    for key in ("preprocess", "class_names", "input", "plan"):
        proto.metadata_props.add(key=key, value=json.dumps(description[key]))
    return proto.SerializeToString()


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)
