"""Rules of operations that attention needs: tables that are read by index, and one head's keys for several heads' queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triaxis.surgery.trace.atoms import support
from triaxis.surgery.trace.rules import rule, tensors_in

if TYPE_CHECKING:
    from triaxis.surgery.trace.tracing import ChannelTracer


@rule("index", "embedding", "gather", "take_along_dim", "index_put", "unfold", "repeat_interleave")
def look_up(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Keep labels of dimensions that are not indexed, as in a table of biases by position and head; pin the others."""
    source, name = args[0], func.overloadpacket.__name__
    indexed = _indexed(name, args, source.ndim)
    planes = []
    for plane in tracer.planes(source):
        if support(plane) & indexed or name == "index_put":
            tracer.pin(plane, f"{name} reads it by position")
        else:
            full = plane.expand(source.shape).contiguous()
            planes.append(tracer.canonical(func(full, *args[1:], **kwargs)))
    for tensor in tensors_in(args[1:]):
        for plane in tracer.planes(tensor):
            tracer.pin(plane, f"{name} has no channel rule for it")
    tracer.label(out, planes)


def _indexed(name: str, args: tuple[Any, ...], num_dims: int) -> set[int]:
    if name == "index":
        return {d for d, index in enumerate(args[1]) if index is not None}
    if name in ("gather", "take_along_dim", "unfold"):
        return {args[1] % num_dims}
    if name == "embedding":
        return {0}
    return set(range(num_dims))
