"""Rules of layers with weights: normalisation, convolution and matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from triaxis.surgery.trace.atoms import aligned, support
from triaxis.surgery.trace.rules import merged, rule, tensors_in

if TYPE_CHECKING:
    from triaxis.surgery.trace.tracing import ChannelTracer


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm", "batch_norm",
       "_batch_norm_no_update", "_batch_norm_with_update")  # fmt: skip
def batch_norm(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Statistics and scales are one per channel."""
    source = args[0]
    planes = list(tracer.planes(source))
    if True in args[5:6] and any(support(p) - {1} for p in planes):
        tracer.note_inexact()
    for vector in tensors_in(args[1:5]):
        for plane in tracer.planes(vector):
            shaped = plane.reshape([1, -1] + [1] * (source.ndim - 2))
            if not any(support(p) & {1} for p in tracer.planes(source)):
                tracer.pin(shaped, "it normalises channels that cannot be cut")
            planes = merged(tracer, planes, shaped)
    tracer.label(tensors_in([out])[0], planes)


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Scales follow the normalised dimensions; statistics over fewer channels differ a little, which fine-tuning absorbs."""
    source = args[0]
    normalised = set(range(source.ndim - len(args[1]), source.ndim))
    planes = list(tracer.planes(source))
    if any(support(p) & normalised for p in planes):
        tracer.note_inexact()
    for vector in tensors_in(args[2:4]):
        for plane in (aligned(p, source.ndim) for p in tracer.planes(vector)):
            if not any(support(p) & support(plane) for p in tracer.planes(source)):
                tracer.pin(plane, "it normalises channels that cannot be cut")
            planes = merged(tracer, planes, plane)
    tracer.label(tensors_in([out])[0], planes)


@rule("native_group_norm", "group_norm")
def group_norm(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Whole normalisation groups go together, so that statistics stay exact; with one group as in `layer_norm`."""
    source, num_groups = args[0], args[6]
    planes = list(tracer.planes(source))
    for vector in tensors_in(args[1:3]):
        for plane in tracer.planes(vector):
            shaped = plane.reshape([1, -1] + [1] * (source.ndim - 2))
            if not any(support(p) & {1} for p in tracer.planes(source)):
                tracer.pin(shaped, "it normalises channels that cannot be cut")
            planes = merged(tracer, planes, shaped)
    for plane in planes:
        if support(plane) == {1} and num_groups > 1:
            rows = plane.reshape(num_groups, -1)
            tracer.atoms.unify(rows, rows[:, :1])
        elif support(plane) & {1}:
            tracer.note_inexact()
    tracer.label(tensors_in([out])[0], planes)


@rule("convolution", "conv2d", "cudnn_convolution", "mkldnn_convolution", "_convolution")
def convolution(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """The weight's input labels meet the source's, its output labels become the result's; see `keeps_groups` for groups."""
    source, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    incoming = _over(tracer, source, 1, {1})
    inputs, outputs = (_over(tracer, weight, dim, {0, 1}) for dim in (in_dim, out_dim))
    if groups > 1:
        outputs = _grouped(tracer, incoming, inputs, outputs, weight, groups, transposed)
    else:
        contract(tracer, incoming, inputs, "a convolution's weight")
    if bias is not None and outputs is not None:
        for plane in tracer.planes(bias):
            tracer.atoms.unify(plane.reshape(-1), outputs)
    tracer.label(out, [] if outputs is None else [outputs.reshape([1, -1] + [1] * (out.ndim - 2))])


def _grouped(
    tracer: ChannelTracer,
    incoming: Tensor | None,
    inputs: Tensor | None,
    outputs: Tensor | None,
    weight: Tensor,
    groups: int,
    transposed: bool,
) -> Tensor | None:
    """Couple a grouped convolution's channels so that a regular grouped convolution remains."""
    parts = [p for p in (incoming, inputs, outputs) if p is not None]
    if transposed or incoming is None or outputs is None or incoming.numel() % groups or outputs.numel() % groups:
        for part in parts:
            tracer.pin(part, "a grouped convolution reads channels that cannot be cut")
        return outputs
    tracer.note_sizes(incoming.reshape(1, -1), [])
    rows_in, rows_out = incoming.reshape(groups, -1), outputs.reshape(groups, -1)
    if keeps_groups(weight.shape[1], groups):
        tracer.atoms.unify(rows_in, rows_in[:1])
        tracer.atoms.unify(rows_out, rows_out[:1])
        contract(tracer, rows_in[0], inputs, "a convolution's weight")
    else:
        tracer.atoms.unify(rows_in, rows_in[:, :1])
        tracer.atoms.unify(rows_out, rows_in[:, :1])
        if inputs is not None:
            tracer.pin(inputs, "whole convolution groups are removed, not channels inside one")
    return outputs


def keeps_groups(channels_per_group: int, groups: int) -> bool:
    """Say how a grouped convolution is cut: the same channels from every group (True), or whole groups (False)."""
    return channels_per_group > groups


def contract(tracer: ChannelTracer, first: Tensor | None, second: Tensor | None, what: str) -> None:
    """Unify the two sides of a sum of products; if one side has no labels the other stays whole."""
    if first is not None and second is not None:
        tracer.atoms.unify(first, second)
        return
    for side in (first, second):
        if side is not None:
            tracer.pin(side, f"it meets {what} that cannot be cut")


def _over(tracer: ChannelTracer, tensor: Tensor, dim: int, allowed: set[int]) -> Tensor | None:
    """Return the flat labels over `dim`; labels over dimensions that are not allowed are pinned."""
    found = None
    for plane in tracer.planes(tensor):
        if support(plane) == {dim}:
            found = plane.reshape(-1)
        elif len(support(plane)) > 1 or not support(plane) <= allowed:
            tracer.pin(plane, "a convolution works across it")
    return found


@rule("mm", "bmm", "addmm", "baddbmm")
def matmul(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Labels over the summed dimension meet; the others go to the result."""
    has_bias = "add" in func.overloadpacket.__name__
    first, second = args[1:3] if has_bias else args[:2]
    rank = out.ndim
    rows, summed = _sides(tracer, first, rank - 1)
    columns, summed_too = _sides(tracer, second, rank - 2)
    contract(tracer, summed, summed_too, "a matrix")
    if rank == 3:
        tracer.note_product(first, second)
        for planes, other in ((rows, second), (columns, first)):
            for plane in planes:
                if 0 in support(plane) and other.shape[0] > 1 and not any(0 in support(p) for p in tracer.planes(other)):
                    tracer.pin(plane, "a matrix product meets it with one that cannot be cut")
    planes = rows
    for plane in columns:
        planes = merged(tracer, planes, plane)
    if has_bias:
        for plane in (aligned(p, rank) for p in tracer.planes(args[0])):
            planes = merged(tracer, planes, plane)
    tracer.label(out, planes)


def _sides(tracer: ChannelTracer, matrix: Tensor, summed_dim: int) -> tuple[list[Tensor], Tensor | None]:
    """Return the planes that survive a product, and the flat labels over the summed dimension."""
    kept, summed = [], None
    for plane in tracer.planes(matrix):
        if support(plane) == {summed_dim}:
            summed = plane.reshape(-1)
        elif summed_dim in support(plane):
            tracer.pin(plane, "a matrix product works across it")
        else:
            kept.append(plane)
    return kept, summed
