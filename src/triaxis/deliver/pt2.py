"""The file ``model.pt2``: the program that torch.export makes of the network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triaxis.deliver.parity import as_export_error, check_parity
from triaxis.store.files import write_atomic
from triaxis.surgery.trace.inputs import for_export
from triaxis.tasks.outputs import flat


def exported_program(live: nn.Module, input_shape: Sequence[int]) -> torch.export.ExportedProgram:
    """Return the program of a network on the CPU; one that returns more than a tensor gives a mapping of names to tensors there."""
    # Traced at batch 2: at 1, torch.export would freeze the batch.
    images = torch.zeros(2, *input_shape)
    with torch.no_grad():
        network, _ = flat(for_export(live), images)
    return torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},))


def write_pt2(path: Path, live: nn.Module, description: dict[str, Any]) -> Path:
    input_shape = description["input"]
    with as_export_error(path):
        program = exported_program(live, input_shape)
        _forget_places(program)
        # Written to memory first: the archive would else be named after the temporary file.
        held = io.BytesIO()
        torch.export.save(program, held)

    def write(temporary: Path) -> None:
        temporary.write_bytes(held.getbuffer())

    write_atomic(path, write)
    check_parity(live, torch.export.load(path).module(), input_shape, path.name)
    return path


def _forget_places(program: torch.export.ExportedProgram) -> None:
    """Leave out the lines of source that each operation came from: they name directories of this machine, and the file is shared."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
