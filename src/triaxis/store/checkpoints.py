"""Weights on disk: safetensors files, written so that a half file is never read and a damaged one is found.

A checkpoint carries the SHA-256 of its content in the safetensors header. One without a header of metadata, as version 0.1
wrote it, is read as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from triaxis.errors import StoreError
from triaxis.process.walltime import part
from triaxis.store.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


DIGEST_KEY = "sha256"
"""The name under which the header holds the digest of the content."""

REMEDY = "put a copy of it back, or remove it, and the same command makes it again"


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, over the names, types, shapes and values of tensors."""
    from torch import uint8

    seal = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        seal.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        seal.update(tensor.detach().cpu().contiguous().flatten().view(uint8).numpy().data)
    return seal.hexdigest()


@part("checkpoints")
def save_checkpoint(path: str | Path, state: Mapping[str, Tensor]) -> Path:
    """Write a state dict and its digest durably and atomically; tensors may be on any device, and may share memory.

    Raises:
        StoreError: The disk is full, or the place cannot be written.
    """
    from safetensors.torch import save_file

    tensors, metadata = _sealed(state)
    return write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata))


def _sealed(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors as safetensors takes them, and the metadata that hold their digest."""
    # A copy each: safetensors refuses tensors that share memory, which tied weights do.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    return tensors, {DIGEST_KEY: content_digest(tensors)}


@part("checkpoints")
def pack_checkpoint(state: Mapping[str, Tensor]) -> bytes:
    """Return a state dict as the bytes of a checkpoint file, to be sent to another process."""
    from safetensors.torch import save

    return save(*_sealed(state))


@part("checkpoints")
def unpack_checkpoint(packed: bytes, origin: str) -> dict[str, Tensor]:
    """Return the state dict that `pack_checkpoint` packed, or that a checkpoint file of these bytes holds, on the CPU.

    Args:
        packed: The bytes.
        origin: Where they come from, for the sentence.

    Raises:
        StoreError: They are none of a checkpoint, or not what was packed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(packed)
        header = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")]).get("__metadata__")
    except (SafetensorError, ValueError) as error:
        raise StoreError(f"{origin} must be a checkpoint that triaxis wrote, got '{error}': {REMEDY}.") from error
    _require_digest(tensors, header, origin, REMEDY)
    return tensors


def read_packed(path: Path) -> bytes:
    """Return the bytes of a checkpoint file, which `unpack_checkpoint` looks at where they arrive.

    Raises:
        StoreError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} must be a checkpoint that triaxis wrote, got '{error.strerror}': {REMEDY}.") from error


def keep_packed(path: str | Path, packed: bytes) -> Path:
    """Write the bytes of `pack_checkpoint` as a checkpoint file, durably and atomically, after a look at their digest.

    Raises:
        StoreError: They are not what was packed, or cannot be written.
    """
    unpack_checkpoint(packed, f"What came for {path}")
    return write_atomic(path, lambda temporary: _write(temporary, packed))


def _write(path: Path, packed: bytes) -> None:
    path.write_bytes(packed)


@part("checkpoints")
def load_checkpoint(path: str | Path, remedy: str = REMEDY) -> dict[str, Tensor]:
    """Read the state dict that `save_checkpoint` wrote, onto the CPU.

    Args:
        path: The file.
        remedy: What the user should do if it is damaged.

    Raises:
        StoreError: The file is missing, is no safetensors file, or its content is not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} must be a checkpoint that triaxis wrote, got '{error}': {remedy}.") from error
    _require_digest(tensors, header, str(path), remedy)
    return tensors


def _require_digest(tensors: Mapping[str, Tensor], header: Mapping[str, str] | None, origin: str, remedy: str) -> None:
    # Version 0.1 wrote no metadata, and so no digest.
    if header is not None and header.get(DIGEST_KEY) != content_digest(tensors):
        raise StoreError(f"{origin} must hold the weights that triaxis wrote, but it is damaged, as its digest shows: {remedy}.")


def load_into(model: Module, path: str | Path, remedy: str = REMEDY) -> None:
    """Load the checkpoint of a whole network into `model`.

    Raises:
        StoreError: The file is missing, damaged, no safetensors file, or belongs to another network.
    """
    put_state(model, load_checkpoint(path, remedy), str(path))


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
