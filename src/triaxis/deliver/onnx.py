"""The file ``model.onnx``, with the plan and the preprocessing in its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from triaxis.deliver.parity import as_export_error, check_parity
from triaxis.metrics.runtimes.onnx import run_onnx, write_onnx
from triaxis.store.files import write_atomic


def write_onnx_file(path: Path, live: nn.Module, description: dict[str, Any]) -> Path:
    metadata = {key: description[key] for key in ("preprocess", "class_names", "input", "plan")}

    def write(temporary: Path) -> None:
        with as_export_error(path):
            write_onnx(temporary, live, description["input"], metadata)

    write_atomic(path, write)
    check_parity(live, run_onnx(path), description["input"], path.name)
    return path
