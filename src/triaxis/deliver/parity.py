"""The proof of an exported file: it gives the live model's outputs, and a refusal of torch's is said in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.errors import ExportError, TriaxisError
from triaxis.surgery.cut.sides import first_line
from triaxis.tasks.outputs import difference

TOLERANCE = 1e-4
"""Largest difference of an exported file's outputs from the live model's, each relative to its largest number."""


PARITY_BATCHES = (1, 8)


@contextmanager
def as_export_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (TriaxisError, OSError):
        raise
    except Exception as error:
        raise ExportError(
            f"{path} must be made by torch from the model's own code, but the model is refused: {first_line(error)}: "
            "keep model.safetensors, which triaxis.load reads."
        ) from error


def check_parity(live: nn.Module, other: Callable[[Tensor], Any], input_shape: list[int], name: str) -> None:
    """Compare all outputs at batch 1 and 8, whatever the model returns: a tensor, or several in mappings, tuples or objects.

    Raises:
        ExportError: They differ by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    for batch in PARITY_BATCHES:
        images = torch.randn(batch, *input_shape, generator=generator)
        with torch.inference_mode():
            error = difference(other(images), live(images), smallest=1e-6)
        if not error <= TOLERANCE:
            raise ExportError(
                f"{name} must give the live model's outputs to {TOLERANCE:g}, got a relative difference of {error:.2g} at batch {batch}: "
                "keep model.safetensors, and report this model."
            )
