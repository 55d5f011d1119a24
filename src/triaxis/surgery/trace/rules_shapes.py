"""Rules of operations that move elements or work on a map's rows and columns: views, concatenations, pooling, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from triaxis.surgery.trace.atoms import squeezed, support
from triaxis.surgery.trace.rules import merged, opaque, rule, tensors_in

if TYPE_CHECKING:
    from triaxis.surgery.trace.tracing import ChannelTracer


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "slice",
       "select", "flip", "roll", "repeat", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "index_select",
       "split", "split_with_sizes", "unbind", "unsafe_split", "unsafe_split_with_sizes", "flatten", "unflatten")  # fmt: skip
def move(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Move the labels as the operation moves the elements, by running it on them."""
    source, name = args[0], func.overloadpacket.__name__
    results = tensors_in([out])
    planes: list[list[Tensor]] = [[] for _ in results]
    for plane in tracer.planes(source):
        full = plane.expand(source.shape).contiguous()
        moved = [full.reshape(out.shape)] if "view" in name or "reshape" in name else tensors_in([func(full, *args[1:], **kwargs)])
        moved = [tracer.canonical(squeezed(m)) for m in moved]
        _keep_in_step(tracer, plane, moved, name)
        moved = [tracer.canonical(m) for m in moved]
        for collected, part in zip(planes, moved, strict=True):
            collected.append(part)
        if "split" in name or name in ("slice", "view", "reshape", "_unsafe_view"):
            tracer.note_sizes(plane, moved)
    if name == "expand":
        planes[0] += _repeated(tracer, source, out)
    for result, labels in zip(results, planes, strict=True):
        tracer.label(result, _without_repeats(tracer, labels))


def _without_repeats(tracer: ChannelTracer, planes: list[Tensor]) -> list[Tensor]:
    """Drop the labels of repeated positions where a view has merged them with others: those go together, as one head's keys do."""
    kept = [p for p in planes if not tracer.is_repeat(p)]
    taken = {d for p in kept for d in support(p)}
    return kept + [p for p in planes if tracer.is_repeat(p) and not support(p) & taken]


@rule("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided")
def make(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """A new tensor takes its kind, not its numbers, from the one that is given."""


@rule("as_strided")
def restride(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Pooling of channels-last tensors only sets strides; any other use is opaque."""
    if tuple(args[1]) == tuple(args[0].shape):
        tracer.label(out, tracer.planes(args[0]))
    else:
        opaque(tracer, func, args, kwargs, out)


def _keep_in_step(tracer: ChannelTracer, plane: Tensor, moved: Sequence[Tensor], name: str) -> None:
    """Let equal pieces of a split, and the rows of a channel dimension that is viewed as two, lose the same channels."""
    if "split" in name and len({m.shape for m in moved}) == 1:
        for part in moved[1:]:
            tracer.atoms.unify(moved[0], part)
    for part in moved:
        dims = support(part)
        if len(dims) > len(support(plane)):
            kept = tracer.kept_dim(dims, part.shape)
            for d in dims - {kept}:
                tracer.atoms.unify(part, part.narrow(d, 0, 1))
            ordered = sorted(dims)
            labels = part[tuple(slice(None) if d == kept else 0 for d in range(part.ndim))]
            tracer.note_split(tuple(part.shape[d] for d in ordered), ordered.index(kept), labels)


def _repeated(tracer: ChannelTracer, source: Tensor, out: Tensor) -> list[Tensor]:
    """Return new labels for dimensions along which one position is repeated: they lose what they meet loses."""
    old = (1,) * (out.ndim - source.ndim) + tuple(source.shape)
    new = [d for d in range(1, out.ndim) if old[d] == 1 and out.shape[d] > 1]
    return [tracer.repeats(out.shape[d]).reshape([-1 if e == d else 1 for e in range(out.ndim)]) for d in new]


@rule("cat", "concat")
def concatenate(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Concatenate labels along the dimension; in the other dimensions the operands must lose the same positions."""
    parts: list[Tensor] = [t for t in args[0] if t.numel()]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    collected: list[Tensor] = []
    for dims in {support(p) for t in parts for p in tracer.planes(t)}:
        pieces = [_piece(tracer, t, dims) for t in parts]
        if dim in dims:
            shape = [max(p.shape[d] for p in pieces) if d != dim else -1 for d in range(out.ndim)]
            pieces = [p.expand([s if d != dim else t.shape[dim] for d, s in enumerate(shape)]) for p, t in zip(pieces, parts, strict=True)]
            collected.append(torch.cat(pieces, dim))
        else:
            for piece in pieces[1:]:
                tracer.atoms.unify(pieces[0], piece)
            collected.append(pieces[0])
    tracer.label(out, collected)


def _piece(tracer: ChannelTracer, tensor: Tensor, dims: frozenset[int]) -> Tensor:
    """Return the operand's plane over `dims`, or new pinned labels where it has none."""
    for plane in tracer.planes(tensor):
        if support(plane) <= dims or dims <= support(plane):
            return plane
    fixed = tracer.atoms.new(1).reshape((1,) * tensor.ndim)
    tracer.pin(fixed, "it is concatenated with a tensor that cannot be cut")
    return fixed


@rule("stack")
def stack(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Unify the operands; the new dimension carries no label."""
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    planes: list[Tensor] = []
    for tensor in args[0]:
        for plane in tracer.planes(tensor):
            planes = merged(tracer, planes, plane)
    tracer.label(out, [p.unsqueeze(dim) for p in planes])


@rule("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d",
       "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "reflection_pad2d",
       "replication_pad2d", "max_pool2d", "_upsample_nearest_exact2d")  # fmt: skip
def spatial(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Keep channel labels; only the last two dimensions change."""
    source = args[0]
    results = [t for t in tensors_in([out]) if t.ndim == source.ndim]
    kept = [p for p in tracer.planes(source) if support(p) <= set(range(source.ndim - 2))]
    for plane in tracer.planes(source):
        if support(plane) - set(range(source.ndim - 2)):
            tracer.pin(plane, f"{func.overloadpacket.__name__} works across it")
    for result in results:
        tracer.label(result, kept)


@rule("constant_pad_nd")
def pad(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Padding of a labelled dimension gets new labels that stay."""
    source, widths = args[0], args[1]
    planes = []
    for plane in tracer.planes(source):
        for pair in range(len(widths) // 2):
            d, before, after = source.ndim - 1 - pair, widths[2 * pair], widths[2 * pair + 1]
            if d in support(plane) and (before or after):
                plane = torch.cat([_fixed(tracer, plane, d, before), plane.narrow(d, max(-before, 0), plane.shape[d] + min(before, 0)
                                   + min(after, 0) - 0), _fixed(tracer, plane, d, after)], d)  # fmt: skip
        planes.append(plane)
    tracer.label(out, planes)


def _fixed(tracer: ChannelTracer, plane: Tensor, dim: int, count: int) -> Tensor:
    shape = [count if d == dim else length for d, length in enumerate(plane.shape)]
    if count <= 0:
        return plane.narrow(dim, 0, 0)
    labels = tracer.atoms.new(count).reshape([count if d == dim else 1 for d in range(plane.ndim)])
    tracer.pin(labels, "it is padding of a fixed width")
    return labels.expand(shape)


@rule("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "logsumexp", "linalg_vector_norm", "norm", "argmax",
       "any", "all")  # fmt: skip
def reduce(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Drop the reduced dimensions; a labelled one may only be summed over, since zeros add nothing."""
    source, name = args[0], func.overloadpacket.__name__
    dims = _reduced_dims(func, args, kwargs, source.ndim)
    for result in tensors_in([out]):
        kept = []
        for plane in tracer.planes(source):
            if support(plane) & dims:
                if name != "sum":
                    tracer.pin(plane, f"{name} is taken across it")
            elif result.ndim == source.ndim:
                kept.append(plane)
            else:
                kept.append(plane.reshape([length for d, length in enumerate(plane.shape) if d not in dims]))
        tracer.label(result, kept)


def _reduced_dims(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], num_dims: int) -> set[int]:
    named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
    dims = named.get("dim")
    if dims is None or dims == []:
        return set(range(num_dims))
    return {d % num_dims for d in (dims if isinstance(dims, list | tuple) else [dims])}


@rule("_softmax", "_log_softmax", "softmax", "_safe_softmax", "cumsum")
def softmax(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Keep labels in other dimensions; along the normalised one nothing may go."""
    source, dim = args[0], args[1] % args[0].ndim
    for plane in tracer.planes(source):
        if dim in support(plane):
            tracer.pin(plane, f"{func.overloadpacket.__name__} is taken across it")
    tracer.label(out, [p for p in tracer.planes(source) if dim not in support(p)])
