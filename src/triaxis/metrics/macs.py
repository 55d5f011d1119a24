"""Multiply-accumulates, counted on the network itself.

A convolution or linear layer does one multiply-accumulate per weight and output position, so

    MACs of layers = sum over layers of (number of weights) x (number of output positions),

where the positions are output pixels for a convolution and rows for a linear layer. Cutting blocks and channels changes
the weights, the side changes the positions: the cost of any cut is a scalar product, without running it.

Products of two matrices outside such layers count too: the two products of attention, or a weight that is a plain
parameter. One of (M, K) with (K, N) costs M x K x N. Each factor depends on the channels or on the side, never on both.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from triaxis.surgery.trace.attention import plain_attention

COUNTED = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Work:
    """What one image's pass does.

    Attributes:
        positions: By layer, its output positions, summed over its calls.
        products: MACs of each matrix product outside a layer; the key is the running module's path and a number.
    """

    positions: dict[str, int] = field(default_factory=dict)
    products: dict[str, int] = field(default_factory=dict)


class _Products(TorchDispatchMode):
    """Count the matrix products outside convolution and linear layers, and convolutions with a weight of the module's own.

    A convolution in a module that has no parameter is a fixed filter (blurring); as before, it does not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.stack: list[tuple[str, nn.Module]] = []
        self._numbers: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet not in flop_registry and func is not torch.ops.prim.device.default:
            with self:
                whole = func.decompose(*args, **kwargs)
            if whole is not NotImplemented:
                return whole
        out = func(*args, **kwargs)
        if packet in flop_registry and self._counts(packet.__name__):
            path = self.stack[-1][0] if self.stack else ""
            self.found[f"{path}#{self._numbers[path]}"] = flop_registry[packet](*args, **kwargs, out_val=out) // 2
            self._numbers[path] += 1
        return out

    def _counts(self, name: str) -> bool:
        if any(isinstance(module, COUNTED) for _, module in self.stack):
            return False
        return "conv" not in name or any(True for _ in self.stack[-1][1].parameters(recurse=False))


@torch.no_grad()
def work(model: nn.Module, input_shape: tuple[int, int, int]) -> Work:
    """Run one image and return what was multiplied.

    Args:
        model: Any network; left in evaluation mode.
        input_shape: (C, S, S).
    """
    positions: dict[str, int] = {}
    products = _Products()

    def enter(name: str) -> Any:
        return lambda layer, _inputs: products.stack.append((name, layer))

    def leave(name: str) -> Any:
        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            products.stack.pop()
            if not isinstance(layer, COUNTED):
                return
            if isinstance(layer, nn.Linear):
                count = output.numel() // output.shape[-1]
            elif isinstance(layer, nn.modules.conv._ConvTransposeNd):
                count = math.prod(inputs[0].shape[2:])
            else:
                count = math.prod(output.shape[2:])
            positions[name] = positions.get(name, 0) + count

        return record

    handles = [m.register_forward_pre_hook(enter(n)) for n, m in model.named_modules()]
    handles += [m.register_forward_hook(leave(n)) for n, m in model.named_modules()]
    try:
        reference = next(model.parameters(), torch.empty(0))
        with plain_attention(), products:
            model.eval()(torch.zeros(1, *input_shape, device=reference.device, dtype=reference.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return Work(positions, products.found)


def macs_at(model: nn.Module, done: Work) -> int:
    """Return the MACs of one image, given the work of `model` (or, without products, of an uncut copy at the same side)."""
    layers = sum(m.weight.numel() * done.positions.get(n, 0) for n, m in model.named_modules() if isinstance(m, COUNTED))
    return layers + sum(done.products.values())


def count_macs(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Return the multiply-accumulates of all layers and matrix products for one (C, S, S) image."""
    return macs_at(model, work(model, input_shape))


def count_params(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())
