"""Tensors that a model keeps from one run to the next, beside its parameters and buffers: a cut model must make its own.

Some attentions keep their table of biases in a dictionary while they are in evaluation mode. Its tensors have the shapes of the
model that ran.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

Cache = tuple[str, str]
"""A module's path and the name of its attribute."""


def empty(model: nn.Module, example: Tensor) -> frozenset[Cache]:
    """Empty a model's dictionaries of tensors, in place, and return those that it cannot run without: they are no caches."""
    held = {(path, name): getattr(model.get_submodule(path), name) for path, name in _filled(model)}
    if not held:
        return frozenset()
    forget(model)
    try:
        with torch.no_grad():
            model(example)
    except Exception:  # noqa: BLE001 - whatever it raises, the tensors are put back
        for (path, name), value in held.items():
            setattr(model.get_submodule(path), name, value)
        return frozenset(held)
    return frozenset()


def forget(model: nn.Module, but: frozenset[Cache] = frozenset()) -> None:
    """Empty a model's dictionaries of tensors, but not these."""
    for path, name in list(_filled(model)):
        if (path, name) not in but:
            setattr(model.get_submodule(path), name, {})


def _filled(model: nn.Module) -> Iterator[Cache]:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and type(value) is dict and value and all(isinstance(v, Tensor) for v in value.values()):
                yield path, name
