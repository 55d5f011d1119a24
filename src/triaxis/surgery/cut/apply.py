"""Apply a plan: every tensor keeps some positions along some dimensions, and modules learn their new shapes.

Names never change: a removed block's place is taken by a module without parameters, so that a tensor of the cut model
and the tensor of the base model that it came from have one name.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.surgery.cut.rewriting import Edit, rewrite
from triaxis.surgery.find.channels import Place
from triaxis.surgery.trace.rules_layers import keeps_groups
from triaxis.surgery.trace.sites import Site
from triaxis.surgery.trace.tracing import Sizes

State = Mapping[str, Tensor]


class Skip(nn.Module):
    """Return the first input: what stands where a block was."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        return x


class Nothing(nn.Module):
    """Return no channels: what stands where a dense layer was whose output does not hold its input."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Tensor:
        first = x if isinstance(x, Tensor) else x[0]
        return first[:, :0]


def drop_from_containers(model: nn.Module, paths: Iterable[str]) -> None:
    """Take removed dense layers out of containers that are walked by name, so that nothing of them runs."""
    for path in paths:
        parent_path, _, name = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        if isinstance(parent, nn.ModuleDict):
            del parent[name]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name; a shared one under each of its names."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return dict(named)


def rebuilt(base: nn.Module, change: Callable[[str, Tensor], Tensor], replaced: Mapping[str, nn.Module]) -> nn.Module:
    """Copy a model's structure with each tensor changed and some modules replaced; nothing of the base is copied twice."""
    memo: dict[int, Any] = {id(base.get_submodule(path)): module for path, module in replaced.items()}
    gone = tuple(f"{path}." for path in replaced)
    for name, tensor in tensors_of(base).items():
        if id(tensor) in memo or name.startswith(gone):
            continue
        changed = change(name, tensor)
        memo[id(tensor)] = nn.Parameter(changed, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else changed
    # A module has a dozen empty dictionaries of hooks, and copying them took two thirds of the time of a cut.
    memo |= {id(held): OrderedDict() for m in base.modules() for held in vars(m).values() if type(held) is OrderedDict and not held}
    return copy.deepcopy(base, memo)


def cut_tensor(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """Return a copy with only the kept positions along each dimension."""
    tensor = tensor.detach().cpu()
    for dim, positions in kept.items():
        tensor = tensor.index_select(dim, positions)
    return tensor.clone() if not kept else tensor


def scattered(base: Tensor, cut: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """Return a copy of `base` with `cut` written at the kept positions."""
    if not kept:
        return cut.detach().cpu().clone()
    full = base.detach().clone().to(cut.dtype)
    index: list[Tensor] = []
    for dim, length in enumerate(base.shape):
        positions = kept.get(dim, torch.arange(length))
        index.append(positions.reshape([-1 if d == dim else 1 for d in range(base.ndim)]))
    full[tuple(index)] = cut.detach().cpu()
    return full


def zeroed(tensor: Tensor, removed: Mapping[int, Tensor]) -> Tensor:
    """Return a copy with the removed positions set to zero."""
    copied = tensor.detach().cpu().clone()
    for dim, positions in removed.items():
        copied.index_fill_(dim, positions, 0)
    return copied


def by_tensor(positions: Mapping[Place, Tensor]) -> dict[str, dict[int, Tensor]]:
    """Return positions by tensor, then by dimension."""
    nested: dict[str, dict[int, Tensor]] = {}
    for (name, dim), where in positions.items():
        nested.setdefault(name, {})[dim] = where
    return nested


def complement(removed: Mapping[Place, Tensor], tensors: State) -> dict[str, dict[int, Tensor]]:
    """Return by tensor and dimension the positions that stay."""
    kept: dict[str, dict[int, Tensor]] = {}
    for (name, dim), positions in removed.items():
        stays = torch.ones(tensors[name].shape[dim], dtype=torch.bool)
        stays[positions] = False
        kept.setdefault(name, {})[dim] = stays.nonzero().reshape(-1)
    return kept


FITTED = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)


GEOMETRY = ("window", "size", "ratio", "stride", "kernel", "dilation", "area", "depth", "patch", "resolution", "grid")
"""Words in names of attributes that hold no number of channels, though they may have the same value."""
WIDTHS = ("dim", "width", "channels", "features", "size")
"""Words in names of attributes that hold no number of heads."""


def fit_attributes(model: nn.Module, base: nn.Module, changed: Iterable[str]) -> None:
    """Make the attributes of the modules that hold these tensors agree with the tensors' shapes."""
    for path in {name.rpartition(".")[0] for name in changed}:
        module, original = model.get_submodule(path), base.get_submodule(path)
        if isinstance(module, nn.modules.conv._ConvNd) and isinstance(original, nn.modules.conv._ConvNd):
            _fit_convolution(module, original)
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.modules.batchnorm._NormBase):
            module.num_features = len(next(t for t in (module.weight, module.running_mean) if t is not None))
        elif isinstance(module, nn.LayerNorm):
            module.normalized_shape = tuple(module.weight.shape)
        elif isinstance(module, nn.GroupNorm) and isinstance(original, nn.GroupNorm):
            module.num_groups = max(1, original.num_groups * len(module.weight) // original.num_channels)
            module.num_channels = len(module.weight)
        elif isinstance(module, nn.PReLU):
            module.num_parameters = len(module.weight)


def _fit_convolution(module: nn.modules.conv._ConvNd, original: nn.modules.conv._ConvNd) -> None:
    outputs, inputs = (1, 0) if module.transposed else (0, 1)
    per_group = original.in_channels // original.groups
    if original.groups > 1 and not keeps_groups(per_group, original.groups):
        module.groups = module.weight.shape[0] * original.groups // original.out_channels
    module.out_channels = module.weight.shape[outputs] * (module.groups if module.transposed else 1)
    module.in_channels = module.weight.shape[inputs] * (1 if module.transposed else module.groups)


def fit_numbers(model: nn.Module, sites: Sequence[Site], length: Callable[[Tensor, int], int]) -> None:
    """Replace numbers in the code of the modules that these sites are in; `length` gives what is left of a label plane."""
    for path in dict.fromkeys(site.path for site in sites):
        edits = [
            Edit(s.frames, {d: p if isinstance(p, int) else length(p, d) for d, p in s.dims.items()}, s.number)
            for s in sites
            if s.path == path
        ]
        rewrite(model.get_submodule(path), edits)


def fit_sizes(
    model: nn.Module, base: nn.Module, sizes: Sequence[Sizes], survivors: Callable[[Tensor], int], counts_heads: Callable[[Tensor], bool]
) -> None:
    """Change the lengths that modules keep as attributes for taking a channel dimension apart.

    An attribute is changed where its value is the old length of the whole or of a piece, or the list of the pieces'
    lengths; two different new lengths for one old one leave it alone, and the proof then finds the fault. A number of heads
    may be equal to a width by chance: there the attribute's name decides.
    """
    lengths: dict[str, dict[tuple[bool, Any], set[Any]]] = {}
    for item in sizes:
        every = (item.whole, *item.pieces)
        new, old = [survivors(labels) for labels in every], [len(labels) for labels in every]
        known = lengths.setdefault(item.path, {})
        for labels, before, after in zip(every, old, new, strict=True):
            known.setdefault((counts_heads(labels), before), set()).add(after)
        known.setdefault((False, tuple(old[1:])), set()).add(tuple(new[1:]))
    for path, known in lengths.items():
        module, original = model.get_submodule(path), base.get_submodule(path)
        if isinstance(original, FITTED):
            continue
        for name, value in vars(original).items():
            if not _is_length(name, value):
                continue
            key = tuple(value) if isinstance(value, list) else value
            heads, widths = (known.get((is_heads, key), set()) for is_heads in (True, False))
            found = heads | widths if not (heads and widths) else widths if any(word in name for word in WIDTHS) else heads
            if len(heads) and not widths and any(word in name for word in WIDTHS):
                continue
            if len(found) == 1:
                setattr(module, name, type(value)(next(iter(found))))


def _is_length(name: str, value: Any) -> bool:
    """Say whether an attribute may hold a number of channels or heads, or a list of such."""
    if any(word in name for word in GEOMETRY) and not any(word in name for word in ("head", "hidden")):
        return False
    return type(value) is int or (type(value) in (list, tuple) and all(type(v) is int for v in value))
