"""Limits on what a network may take while it is built, for a network that somebody else's file asks for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from triaxis.errors import PlanError


@dataclass
class Limits(TorchDispatchMode):
    """While this is entered, each new tensor is counted before its memory is asked for, and each part of a network as it is added.

    `num_elements` bounds the elements of all tensors made, `num_parts` the modules, parameters and buffers; `what` is asked for.

    Raises:
        PlanError: One of the limits is passed.
    """

    num_elements: int
    num_parts: int
    what: str

    def __post_init__(self) -> None:
        super().__init__()
        self._elements = self._parts = 0
        self._thread = threading.get_ident()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if not func._schema.is_mutable:
            self._elements += _new_elements(func, args, kwargs or {})
            if self._elements > self.num_elements:
                raise PlanError(f"{self.what} must not take more than {self.num_elements:.2g} numbers: do not trust the file.")
        return func(*args, **(kwargs or {}))

    def count_part(self, *_: Any) -> None:
        """Count one module, parameter or buffer that the thread at work adds to another module."""
        if threading.get_ident() != self._thread:
            return
        self._parts += 1
        if self._parts > self.num_parts:
            raise PlanError(f"{self.what} must not have more than {self.num_parts} parts: do not trust the file.")


def _new_elements(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return how many elements an operation is about to make: it is tried with shapes alone."""

    def shape_of(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    made: Any = None
    with suppress(Exception):  # what cannot be tried so depends on values, and is small
        inner = {**tree_map_only(Tensor, shape_of, kwargs), **({"device": torch.device("meta")} if "device" in kwargs else {})}
        made = func(*tree_map_only(Tensor, shape_of, args), **inner)
    return sum(math.prod(t.shape) for t in (made if isinstance(made, tuple | list) else [made]) if isinstance(t, Tensor))


@contextmanager
def bounded(limits: Limits) -> Iterator[None]:
    """Build networks within limits; see `Limits`."""
    handles = [
        registration.register_module_module_registration_hook(limits.count_part),
        registration.register_module_parameter_registration_hook(limits.count_part),
        registration.register_module_buffer_registration_hook(limits.count_part),
    ]
    try:
        with limits:
            yield
    finally:
        for handle in handles:
            handle.remove()
