"""Weights on disk: safetensors files, written so that a half file is never read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from triaxis.errors import StoreError
from triaxis.store.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor


def save_checkpoint(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a state dict durably and atomically; tensors may be on any device, and may share memory.

    Raises:
        StoreError: The disk is full, or the place cannot be written.
    """
    from safetensors.torch import save_file

    # A copy each: safetensors refuses tensors that share memory, which tied weights do.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    return write_atomic(path, lambda temporary: save_file(tensors, temporary, dict(metadata) if metadata else None))


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict that `save_checkpoint` wrote, onto the CPU.

    Raises:
        StoreError: The file is missing or is no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} must be a checkpoint that triaxis wrote, got '{error}': remove it and run again.") from error
