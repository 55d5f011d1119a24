"""What each tensor operation does to channel labels.

A rule takes the tracer, the operation, its arguments and its result, and gives the result its planes. Whatever has no
rule pins everything it touches: then those channels are never cut, which is always safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from triaxis.surgery.atoms import aligned, squeezed, support

if TYPE_CHECKING:
    from triaxis.surgery.tracing import ChannelTracer

Rule = Callable[["ChannelTracer", Any, tuple[Any, ...], dict[str, Any], Any], None]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

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


@_rule("clone", "_to_copy", "detach", "alias", "contiguous", "dropout", "native_dropout", "hardswish", "hardtanh", "hardsigmoid",
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


@_rule("view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "slice",
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
        moved = [squeezed(m) for m in moved]
        _keep_in_step(tracer, plane, moved, name)
        for collected, part in zip(planes, moved, strict=True):
            collected.append(tracer.canonical(part))
        if "split" in name or name in ("slice", "view", "reshape"):
            tracer.note_sizes(plane, moved)
    for result, labels in zip(results, planes, strict=True):
        tracer.label(result, labels)


@_rule("as_strided")
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
            widest = max(dims, key=lambda d: part.shape[d])
            for d in dims - {widest}:
                tracer.atoms.unify(part, part.narrow(d, 0, 1))


@_rule("cat", "concat")
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


@_rule("stack")
def stack(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Unify the operands; the new dimension carries no label."""
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    planes: list[Tensor] = []
    for tensor in args[0]:
        for plane in tracer.planes(tensor):
            planes = merged(tracer, planes, plane)
    tracer.label(out, [p.unsqueeze(dim) for p in planes])


@_rule("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d",
       "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "reflection_pad2d",
       "replication_pad2d", "max_pool2d", "_upsample_nearest_exact2d", "im2col")  # fmt: skip
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


@_rule("constant_pad_nd")
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


@_rule("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "logsumexp", "linalg_vector_norm", "norm", "argmax",
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


@_rule("_softmax", "_log_softmax", "softmax", "cumsum")
def softmax(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Keep labels in other dimensions; along the normalised one nothing may go."""
    source, dim = args[0], args[1] % args[0].ndim
    for plane in tracer.planes(source):
        if dim in support(plane):
            tracer.pin(plane, f"{func.overloadpacket.__name__} is taken across it")
    tracer.label(out, [p for p in tracer.planes(source) if dim not in support(p)])


@_rule("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm", "batch_norm",
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


@_rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
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


@_rule("native_group_norm", "group_norm")
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


@_rule("convolution", "conv2d", "cudnn_convolution", "mkldnn_convolution", "_convolution")
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


@_rule("mm", "bmm", "addmm", "baddbmm")
def matmul(tracer: ChannelTracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Labels over the summed dimension meet; the others go to the result."""
    has_bias = "add" in func.overloadpacket.__name__
    first, second = args[1:3] if has_bias else args[:2]
    rank = out.ndim
    rows, summed = _sides(tracer, first, rank - 1)
    columns, summed_too = _sides(tracer, second, rank - 2)
    contract(tracer, summed, summed_too, "a matrix")
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
