"""What each tensor operation does to channel labels: the registry, and operations that combine elements one by one.

A rule takes the tracer, the operation, its arguments and its result, and gives the result its planes. Whatever has no
rule pins everything it touches: then those channels are never cut, which is always safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from triaxis.surgery.trace.atoms import aligned, support

if TYPE_CHECKING:
    from triaxis.surgery.trace.tracing import ChannelTracer

Rule = Callable[["ChannelTracer", Any, tuple[Any, ...], dict[str, Any], Any], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for aten operations; a name serves its in-place form too."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def rule_for(func: Any) -> Rule:
    """Return the rule of an aten operation; an unknown one is `opaque`."""
    name = func.overloadpacket.__name__
    if name in RULES:
        return RULES[name]
    plain = name.rstrip("_")
    if plain in RULES:
        return RULES[plain]
    return elementwise if torch.Tag.pointwise in func.tags else opaque


def tensors_in(items: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments, looking into lists and tuples."""
    found: list[Tensor] = []
    for item in items:
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, list | tuple):
            found += tensors_in(item)
    return found


def opaque(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Pin every label that goes in; the result carries none."""
    for tensor in tensors_in((*args, *kwargs.values())):
        for plane in tracer.planes(tensor):
            tracer.pin(plane, f"{func.overloadpacket.__name__} has no channel rule")


@rule("clone", "_to_copy", "detach", "alias", "contiguous", "dropout", "native_dropout", "hardswish", "hardtanh", "hardsigmoid",
       "copy", "gelu", "silu", "mish", "zeros_like", "ones_like", "empty_like", "lift_fresh", "where", "masked_fill", "threshold",
       "prelu", "_prelu_kernel", "leaky_relu", "elu", "celu", "selu", "bernoulli", "rand_like", "randn_like", "full_like", "fill",
       "zero", "div")  # fmt: skip
def elementwise(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Unify the labels of positions that are combined with each other."""
    result = tensors_in([out])[0]
    operands = [t for t in tensors_in((*args, *kwargs.values())) if t.ndim <= result.ndim]
    planes: list[Tensor] = []
    for operand in operands:
        for plane in (aligned(p, result.ndim) for p in tracer.planes(operand)):
            for other in operands:
                if other is not operand and not _meets(tracer, plane, other, result.ndim):
                    tracer.pin(plane, f"{func.overloadpacket.__name__} combines it with a tensor that cannot be cut")
            planes = merged(tracer, planes, plane)
    tracer.label(result, planes)


def _meets(tracer: ChannelTracer, plane: Tensor, other: Tensor, num_dims: int) -> bool:
    """Say whether cutting `plane` leaves it able to combine with `other`: by labels of its own, or by broadcasting."""
    shape = (1,) * (num_dims - other.ndim) + tuple(other.shape)
    if all(shape[d] == 1 for d in support(plane)):
        return True
    return any(support(aligned(p, num_dims)) & support(plane) for p in tracer.planes(other))


def merged(tracer: ChannelTracer, planes: list[Tensor], plane: Tensor) -> list[Tensor]:
    """Return `planes` with one more, unified with the one that varies over the same dimensions."""
    for i, known in enumerate(planes):
        if support(known) & support(plane):
            tracer.atoms.unify(known, plane)
            wider = plane if len(support(plane)) > len(support(known)) else known
            return [*planes[:i], wider, *planes[i + 1 :]]
    return [*planes, plane]
