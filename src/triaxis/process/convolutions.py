"""A way around a fault of torch's maths library on processors of the x86 kind.

The backward pass of a 1x1 convolution with a stride writes beyond its memory where its input is channels_last and has fewer than 16
channels (oneDNN issue 6035): the process dies, or gradients are wrong. Networks that were cut thin have such convolutions, in
the shortcuts of a ResNet. Their input and weight are held in contiguous memory, which takes another path; strides tell, and a
1x1 weight counts as contiguous in both formats, so that it must be copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

FEWEST_CHANNELS = 16
"""Of the input, for each group: with as many or more, the library's blocks are full and nothing is overwritten."""


def is_at_risk(module: nn.Module) -> bool:
    """Whether a module is a convolution that the fault concerns."""
    if not isinstance(module, nn.Conv2d) or max(module.kernel_size) > 1:
        return False
    return max(module.stride) > 1 and module.in_channels // module.groups < FEWEST_CHANNELS


def guard(network: nn.Module) -> list[RemovableHandle]:
    """Hold weights of the convolutions at risk in contiguous memory, and give them such input from now on.

    Call it after the network was brought to its memory format. `release` takes what it returns.
    """
    at_risk = [module for module in network.modules() if is_at_risk(module)]
    for module in at_risk:
        weight = module.get_parameter("weight")
        weight.data = contiguous_copy(weight.data)
    return [module.register_forward_pre_hook(_contiguous) for module in at_risk]


def contiguous_copy(tensor: Tensor) -> Tensor:
    """Return a copy whose strides are those of contiguous memory, which `Tensor.contiguous` does not do where both formats fit."""
    return tensor.clone(memory_format=torch.contiguous_format)


def release(guards: Iterable[RemovableHandle]) -> None:
    """Take the guards away again: an exported file must not hold them."""
    for handle in guards:
        handle.remove()


@contextmanager
def guarded(network: nn.Module) -> Iterator[None]:
    """Guard a network within the context."""
    guards = guard(network)
    try:
        yield
    finally:
        release(guards)


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() if x.device.type == "cpu" else x for x in inputs)
