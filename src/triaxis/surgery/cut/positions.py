"""Let a model take another side where its tables of positions or its code know the old one.

Tried in this order, each by running: the model as it is; its own `set_input_size`, as many of timm's models have it; and a generic
change: tables with one row for each patch are resampled, indices of relative positions keep the rows and columns of a smaller
grid, and attributes that hold the side, the grid or the number of patches are set.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triaxis.surgery.cut import caches

MAX_PREFIX = 8
"""Most tokens of another kind (class, registers) that may stand before the patches in a table."""

SIDE_WORDS = ("size", "resolution", "img", "image", "grid", "feat", "shape")

CHANNEL_WORDS = ("head", "dim", "width", "channels", "features", "groups")
"""Words in names of attributes that hold no number of positions, though they may have the same value."""


def resize(model: nn.Module, old_px: int, new_px: int) -> None:
    """Make a model take images of another side, in place; whether it then does is for the caller to try.

    Args:
        model: A copy that may be changed.
        old_px: The side it takes.
        new_px: The side it shall take.
    """
    own = getattr(model, "set_input_size", None)
    if callable(own):
        with quiet():
            own(img_size=(new_px, new_px))
        return
    grids: dict[int, int] = {}
    for module in model.modules():
        for name, tensor in list(module.named_parameters(recurse=False)):
            if shape := _new_shape(tensor, old_px, new_px):
                grids |= dict(zip(tensor.shape, shape, strict=True))
                setattr(module, name, nn.Parameter(resampled(tensor, shape), requires_grad=tensor.requires_grad))
        for name, index in list(module.named_buffers(recurse=False)):
            if not index.is_floating_point() and index.ndim == 2 and (kept := _sub_grids(index, old_px, new_px)):
                counts = dict(zip(index.shape, (len(k) for k in kept), strict=True))
                module._buffers[name] = index.index_select(0, kept[0]).index_select(1, kept[1])
                _replace_numbers(module, counts)
    for module in model.modules():
        _replace_sides(module, old_px, new_px)
        _replace_numbers(module, {n: m for n, m in grids.items() if n != m}, only=("num_patches", "seq_length", "num_tokens"))


def resized(model: nn.Module, old_px: int, new_px: int) -> nn.Module:
    """Return a copy of a model that shall take another side."""
    changed = copy.deepcopy(model)
    caches.forget(changed)
    resize(changed, old_px, new_px)
    return changed


def wastes(model: nn.Module, side_px: int) -> bool:
    """Say whether pixels at the border would be left out, because the side is no multiple of a patch."""
    patches = (getattr(module, "patch_size", 1) for module in model.modules())
    return any(side_px % p for patch in patches for p in (patch if isinstance(patch, tuple | list) else (patch,)) if type(p) is int and p)


def resampled(table: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a table of positions of another shape: bicubic over the grid; tokens before it stay.

    Args:
        table: One dimension is prefix + height x width positions, or two are height and width.
        shape: The new shape, of as many dimensions.
    """
    changed = [d for d, (n, m) in enumerate(zip(table.shape, shape, strict=True)) if n != m]
    if not changed:
        return table.detach().clone()
    if len(changed) == 2:
        moved = table.detach().movedim(changed, (-2, -1))
        flat = moved.reshape(1, -1, *moved.shape[-2:])
        grown = _interpolated(flat, (shape[changed[0]], shape[changed[1]]))
        return grown.reshape(*moved.shape[:-2], *grown.shape[-2:]).movedim((-2, -1), changed).contiguous()
    (dim,) = changed
    before, after, prefix = _squares(table.shape[dim], shape[dim])
    rows = table.detach().movedim(dim, 0)
    grid = rows[prefix:].reshape(before, before, -1).permute(2, 0, 1)[None]
    grown = _interpolated(grid, (after, after))[0].permute(1, 2, 0).reshape(after * after, *rows.shape[1:])
    return torch.cat([rows[:prefix], grown]).movedim(0, dim).contiguous()


def _interpolated(grid: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(grid.float(), size, mode="bicubic", antialias=True, align_corners=False).to(grid.dtype)


def _squares(old: int, new: int) -> tuple[int, int, int]:
    """Return the sides of two square grids and how many tokens stand before each."""
    for prefix in range(MAX_PREFIX + 1):
        before, after = math.isqrt(max(0, old - prefix)), math.isqrt(max(0, new - prefix))
        if before * before == old - prefix and after * after == new - prefix:
            return before, after, prefix
    raise ValueError(f"a table of {old} positions cannot be resampled to {new}: they are no square grids")


def _grid(side: int, old_px: int, new_px: int) -> int:
    """Return the side of a grid at the new side, or 0 if it does not follow the image."""
    if side < 2:
        return 0
    strides = [1 << power for power in range(1, 8) if -(-old_px // (1 << power)) == side]
    if strides or old_px % side == 0:
        return -(-new_px // (strides[0] if strides else old_px // side))
    return 0


def _new_shape(tensor: Tensor, old_px: int, new_px: int) -> tuple[int, ...]:
    """Return the shape of a table of absolute positions at the new side; nothing if the tensor is none."""
    if tensor.shape[:1] != (1,) or tensor.ndim not in (3, 4):
        return ()
    if tensor.ndim == 4:
        dims = (1, 2) if tensor.shape[1] == tensor.shape[2] else (2, 3) if tensor.shape[2] == tensor.shape[3] else ()
        side = _grid(tensor.shape[dims[0]], old_px, new_px) if dims else 0
        return tuple(side if d in dims else n for d, n in enumerate(tensor.shape)) if side else ()
    for prefix in range(MAX_PREFIX + 1):
        side = math.isqrt(max(0, tensor.shape[1] - prefix))
        if side * side == tensor.shape[1] - prefix and side > 1 and old_px % side == 0:
            return (1, prefix + _grid(side, old_px, new_px) ** 2, tensor.shape[2])
    return ()


def _sub_grids(index: Tensor, old_px: int, new_px: int) -> list[Tensor]:
    """Return which rows and columns of an index over pairs of grid positions stay in a smaller grid."""
    kept = []
    for length in index.shape:
        side = math.isqrt(length)
        new = _grid(side, old_px, new_px)
        if side * side != length or not new or new > side:
            return []
        kept.append((torch.arange(new)[:, None] * side + torch.arange(new)).reshape(-1))
    return kept


def _replace_sides(module: nn.Module, old_px: int, new_px: int) -> None:
    for name, value in list(vars(module).items()):
        if not any(word in name for word in SIDE_WORDS):
            continue
        if type(value) is int and value == old_px:
            setattr(module, name, new_px)
        elif type(value) in (tuple, list) and len(value) == 2 and value[0] == value[1] and type(value[0]) is int:
            is_window = any(word in name for word in ("patch", "window", "kernel"))
            side = new_px if value[0] == old_px else 0 if is_window else _grid(value[0], old_px, new_px)
            if side:
                setattr(module, name, type(value)((side, side)))


def _replace_numbers(module: nn.Module, counts: dict[int, int], only: tuple[str, ...] = ()) -> None:
    """Set attributes that hold a number of positions, alone or in a tuple."""
    for name, value in list(vars(module).items()):
        if (only and name not in only) or any(word in name for word in CHANNEL_WORDS):
            continue
        new: Any = counts.get(value, value) if type(value) is int else value
        if type(value) is tuple and all(type(v) is int for v in value):
            new = tuple(counts.get(v, v) for v in value)
        if new != value:
            setattr(module, name, new)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from telling of each table that they resample."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
