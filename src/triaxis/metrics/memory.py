"""Memory of one forward pass: weights, and the peak of the activations that live at once."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class _Live(TorchDispatchMode):
    """Follows every storage that an operator returns until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, tuple | list) else (result,):
            if isinstance(item, torch.Tensor):
                self._follow(item.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.live:
            return
        self.live[key] = storage.nbytes()
        weakref.finalize(storage, self.live.pop, key, None)
        self.peak = max(self.peak, sum(self.live.values()))


def measure_memory(model: nn.Module, input_shape: tuple[int, int, int], batch: int) -> int:
    """Return the bytes of weights, buffers, input and peak activations of one forward pass on the CPU, without workspaces.

    Args:
        model: Any network, on the CPU.
        input_shape: (C, S, S).
        batch: Images per call.
    """
    fixed = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    images = torch.zeros(batch, *input_shape)
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), images)}
    with torch.no_grad(), _Live() as live:
        live.live |= dict.fromkeys(own, 0)
        model.eval()(images)
    return fixed + images.nbytes + live.peak
