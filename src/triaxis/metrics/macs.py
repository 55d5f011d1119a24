"""Multiply-accumulates, counted on the network itself.

A convolution or linear layer does one multiply-accumulate per weight and output position, so

    MACs = sum over layers of (number of weights) x (number of output positions),

where the positions are output pixels for a convolution and rows for a linear layer. Cutting blocks and channels changes
the weights, the side changes the positions: the cost of any cut is a scalar product, without running it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

COUNTED = (nn.modules.conv._ConvNd, nn.Linear)


@torch.no_grad()
def positions(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, int]:
    """Return for each conv and linear layer the output positions of one image, summed over its calls.

    Args:
        model: Any network; left in evaluation mode.
        input_shape: (C, S, S).
    """
    found: dict[str, int] = {}

    def hook(name: str) -> object:
        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(layer, nn.Linear):
                count = output.numel() // output.shape[-1]
            elif isinstance(layer, nn.modules.conv._ConvTransposeNd):
                count = math.prod(inputs[0].shape[2:])
            else:
                count = math.prod(output.shape[2:])
            found[name] = found.get(name, 0) + count

        return record

    handles = [m.register_forward_hook(hook(n)) for n, m in model.named_modules() if isinstance(m, COUNTED)]  # type: ignore[arg-type]
    try:
        reference = next(model.parameters(), torch.empty(0))
        model.eval()(torch.zeros(1, *input_shape, device=reference.device, dtype=reference.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return found


def macs_at(model: nn.Module, layer_positions: dict[str, int]) -> int:
    """Return the MACs of one image, given the positions of `model`'s layers (or of an uncut copy's, at the same side)."""
    return sum(m.weight.numel() * layer_positions.get(n, 0) for n, m in model.named_modules() if isinstance(m, COUNTED))


def count_macs(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Return the multiply-accumulates of all conv and linear layers for one (C, S, S) image."""
    return macs_at(model, positions(model, input_shape))


def count_params(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())
