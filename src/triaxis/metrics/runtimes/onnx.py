"""ONNX: written from the live model, checked and run by onnxruntime (extra ``[onnx]``)."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.errors import MissingDependencyError
from triaxis.surgery.trace.inputs import for_export
from triaxis.tasks.outputs import difference, flat

log = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 0.01
"""Between a network and its quickly written file, relative to the largest output: more is not rounding."""


def require_onnx() -> None:
    """Check that onnx, onnxscript and onnxruntime are installed.

    Raises:
        MissingDependencyError: One is not.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"ONNX needs the packages {', '.join(missing)}: install the extra with pip install 'triaxis[onnx]'.")


def write_onnx(path: Path, model: nn.Module, input_shape: tuple[int, ...], metadata: Mapping[str, Any] | None = None) -> Path:
    """Write `model` (on the CPU, in evaluation mode) with a dynamic batch, input ``images`` and output ``logits``.

    A model that returns more than a tensor has an output for each, named as in `triaxis.tasks.outputs.named_tensors`.

    Args:
        path: The file to write, not atomically.
        model: The network.
        input_shape: (C, S, S).
        metadata: Plain data kept in the file's ``metadata_props``, a JSON text under each key.
    """
    require_onnx()
    import onnx

    # Traced at batch 2: at 1 the exporter would take the batch for a constant.
    example = torch.zeros(2, *input_shape)
    batch = torch.export.Dim("batch", min=1, max=65536)
    with torch.no_grad():
        network, names = flat(for_export(model), example)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=list(names),
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for node in (*proto.graph.node, *(node for function in proto.functions for node in function.node)):
        # The lines of source that it came from: they name directories of this machine, and the file is shared.
        del node.metadata_props[:]
    for key, item in (metadata or {}).items():
        proto.metadata_props.add(key=key, value=json.dumps(item))
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def write_quickly(path: Path, model: nn.Module, input_shape: tuple[int, ...], batch: int) -> Path:
    """Write `model` for one batch size, to be timed and thrown away; some twenty times as fast as `write_onnx`.

    It goes through torch's older exporter, whose files run as fast. What that refuses, or writes wrongly, is left to `write_onnx`.

    Args:
        path: The file to write.
        model: The network, on the CPU, in evaluation mode.
        input_shape: (C, S, S).
        batch: Images in a pass.
    """
    require_onnx()
    example = torch.rand(batch, *input_shape)
    with torch.no_grad(), warnings.catch_warnings():
        # It is deprecated, and traces: both are said at every call.
        warnings.simplefilter("ignore")
        network, names = flat(for_export(model), example)
        try:
            torch.onnx.export(network, (example,), str(path), dynamo=False, input_names=["images"], output_names=list(names))
            if difference(run_onnx(path)(example), network(example)) < LARGEST_DIFFERENCE:
                return path
        except Exception as error:  # noqa: BLE001 - the other exporter may do better, and says what is wrong if it cannot
            log.debug("the quick exporter refused: %s", error)
    return write_onnx(path, model, input_shape)


def run_onnx(path: Path, *, threads: int | None = None) -> Callable[[Tensor], Any]:
    """Return a function that runs an ONNX file on the CPU with so many threads; None takes as many as torch uses.

    It returns a tensor, or where the file has several outputs a mapping of their names to tensors.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> Any:
        found = {
            name: torch.from_numpy(part)
            for name, part in zip(names, session.run(None, {session.get_inputs()[0].name: images.numpy()}), strict=True)
        }
        return found if len(found) > 1 else found[names[0]]

    return run
