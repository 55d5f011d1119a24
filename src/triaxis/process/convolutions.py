"""A way around a fault of torch's maths library on processors of the x86 kind.

The backward pass of a 1x1 convolution with a stride writes beyond its memory where its input is channels_last and has fewer than 16
channels (oneDNN issue 6035): the process dies, or gradients are wrong. Networks that were cut thin have such convolutions, in
the shortcuts of a ResNet. They are given their input as contiguous memory, which takes another path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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
    """Give the convolutions at risk contiguous input from now on; return what `release` takes."""
    return [module.register_forward_pre_hook(_contiguous) for module in network.modules() if is_at_risk(module)]


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
