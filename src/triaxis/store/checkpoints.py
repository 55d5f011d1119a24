"""Weights on disk: safetensors files, written so that a half file is never read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from triaxis.errors import StoreError
from triaxis.store.files import write_atomic
from triaxis.walltime import part

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@part("checkpoints")
def save_checkpoint(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a state dict durably and atomically; tensors may be on any device, and may share memory.

    Raises:
        StoreError: The disk is full, or the place cannot be written.
    """
    from safetensors.torch import save_file

    # A copy each: safetensors refuses tensors that share memory, which tied weights do.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    return write_atomic(path, lambda temporary: save_file(tensors, temporary, dict(metadata) if metadata else None))


@part("checkpoints")
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
        raise StoreError(
            f"{path} must be a checkpoint that triaxis wrote, got '{error}': put a copy back, or run again in a new directory."
        ) from error


def load_into(model: Module, path: str | Path) -> None:
    """Load the checkpoint of a whole network into `model`.

    Raises:
        StoreError: The file is missing, is no safetensors file, or belongs to another network.
    """
    put_state(model, load_checkpoint(path), str(path))


def put_state(model: Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load tensors into `model` under the state dict's own version numbers, without which some networks refuse them.

    Raises:
        StoreError: Names or shapes are not the network's.
    """
    state = model.state_dict()
    own, given = ({name: tuple(t.shape) for name, t in each.items()} for each in (state, tensors))
    if own != given:
        differing = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise StoreError(
            f"{origin} must hold the weights of this network, but {len(differing)} tensors differ in name or shape, such as "
            f"{', '.join(differing[:3])}: it belongs to another one."
        )
    state.update(tensors)
    model.load_state_dict(state)
