"""Which input sides a model accepts: tried one by one, on shapes only where the model allows it."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

SMALL_SIDE_PX = 64
STEP_PX = 8


def candidate_sides(side_px: int, min_resolution: float) -> list[int]:
    """Return the sides to try, falling: every pixel for small images, multiples of 8 px below the base side for larger ones."""
    lowest = max(1, int(-(-side_px * min_resolution // 1)))
    if side_px <= SMALL_SIDE_PX:
        return list(range(side_px, lowest - 1, -1))
    first = (side_px - 1) // STEP_PX * STEP_PX
    return [side_px, *range(first, lowest - 1, -STEP_PX)]


def accepted_sides(model: nn.Module, sides_px: Iterable[int], in_channels: int) -> tuple[tuple[int, ...], str]:
    """Run the model at each side and keep those that work.

    Returns:
        The accepted sides in the order given, and why the first refused one was refused (empty if none was).
    """
    accepted, reason = [], ""
    shapes_only = _on_meta(model)
    runner, device = (shapes_only, "meta") if shapes_only is not None else (model, "cpu")
    expected = None
    for side in sides_px:
        shape, problem = try_side(runner, side, in_channels, device)
        if problem and device == "meta" and not accepted:
            runner, device = model, "cpu"
            shape, problem = try_side(runner, side, in_channels, device)
        if not problem and (expected is None or shape == expected):
            accepted.append(side)
            expected = shape
        else:
            reason = reason or problem or f"the output's shape changes from {expected} to {shape} at {side} px"
    return tuple(accepted), reason


def try_side(model: nn.Module, side_px: int, in_channels: int, device: str = "cpu") -> tuple[tuple[int, ...], str]:
    """Run the model at one side with batch 2; return the output's shape and, if it fails, the module and the reason."""
    stack: list[str] = []
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _m, _a, path=path: stack.append(path)))  # type: ignore[misc]
        handles.append(module.register_forward_hook(lambda _m, _a, _o: stack.pop() and None))
    try:
        with torch.no_grad():
            out = model(torch.zeros(2, in_channels, side_px, side_px, device=device))
    except Exception as error:  # noqa: BLE001 - whatever a user's model raises is the reason this side is refused
        return (), f"{stack[-1] if stack and stack[-1] else 'the model'}: {_first_line(error)} (at {side_px} px)"
    finally:
        for handle in handles:
            handle.remove()
    return (tuple(out.shape) if isinstance(out, torch.Tensor) else ()), ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _on_meta(model: nn.Module) -> nn.Module | None:
    """Return a copy without data, whose forward computes shapes only; None if the model cannot be copied so."""
    try:
        return copy.deepcopy(model).to("meta").eval()
    except Exception:  # noqa: BLE001 - a model with tensors outside its parameters may refuse; then real data is used
        return None
