"""The proof of an exported file: it gives the live model's outputs, and a refusal of torch's is said in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from triaxis.errors import ExportError, TriaxisError
from triaxis.surgery.cut.sides import first_line

TOLERANCE = 1e-4
"""Largest difference of an exported file's logits from the live model's, relative to the largest logit."""


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


def check_parity(live: nn.Module, other: Callable[[Tensor], Tensor], input_shape: list[int], name: str) -> None:
    """Compare outputs at batch 1 and 8.

    Raises:
        ExportError: They differ by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    for batch in PARITY_BATCHES:
        images = torch.randn(batch, *input_shape, generator=generator)
        with torch.inference_mode():
            expected, found = live(images), other(images)
        error = (expected - found).abs().max().item() / max(expected.abs().max().item(), 1e-6)
        if not error <= TOLERANCE:
            raise ExportError(
                f"{name} must give the live model's outputs to {TOLERANCE:g}, got a relative difference of {error:.2g} at batch {batch}: "
                "keep model.safetensors, and report this model."
            )
