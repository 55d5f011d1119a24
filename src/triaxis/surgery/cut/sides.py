"""Which input sides a model accepts: tried one by one, not assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from time import thread_time

import torch
from torch import nn

from triaxis.surgery.cut.positions import resized, wastes
from triaxis.tasks.outputs import named_tensors

Shapes = tuple[tuple[int, ...], ...]
"""Of each tensor that a model returns."""

SMALL_SIDE_PX = 64
STEP_PX = 8


def candidate_sides(side_px: int, min_resolution: float) -> list[int]:
    """Return the sides to try, falling: every pixel for small images, multiples of 8 px below the base side for larger ones."""
    lowest = max(1, int(-(-side_px * min_resolution // 1)))
    if side_px <= SMALL_SIDE_PX:
        return list(range(side_px, lowest - 1, -1))
    first = (side_px - 1) // STEP_PX * STEP_PX
    return [side_px, *range(first, lowest - 1, -STEP_PX)]


def accepted_sides(
    model: nn.Module, sides_px: Iterable[int], in_channels: int, deadline: float = float("inf")
) -> tuple[tuple[int, ...], str]:
    """Run the model at each side and keep those that work with the same output shapes, or with such as follow the side.

    Args:
        model: In eval mode, on the CPU.
        sides_px: Sides to try, the base model's first.
        in_channels: Channels of the images.
        deadline: Value of `time.thread_time` after which no further side is tried.

    Returns:
        The accepted sides in the order given, and why the first refused one was refused (empty if none was). At some of them
        the model runs only as `positions.resize` changes it.
    """
    accepted: list[int] = []
    reason, base_px = "", 0
    expected: Shapes | None = None
    for side in sides_px:
        if accepted and thread_time() > deadline:
            return tuple(accepted), reason or f"the time limit ended the search at {side} px"
        base_px = base_px or side
        shapes, problem = try_side(model, side, in_channels)
        if problem and accepted and not wastes(model, side):
            changed = try_resized(model, base_px, side, in_channels)
            shapes, problem = (changed, "") if expected and changed and follows(changed, expected) else (shapes, problem)
        fits = not problem and (expected is None or follows(shapes, expected))
        if fits:
            accepted.append(side)
            expected = expected or shapes
        if not fits:
            reason = reason or problem or f"the model's output has shape {_words(shapes)} at {side} px, not {_words(expected)}"
    if len(accepted) > 1 and expected and len(expected[0]) == 2 and _saves_nothing(model, accepted[0], accepted[-1], in_channels):
        return (accepted[0],), f"the model brings pictures to a side of its own, so that {accepted[-1]} px cost as much"
    return tuple(accepted), reason


def _saves_nothing(model: nn.Module, base_px: int, side_px: int, in_channels: int) -> bool:
    """Say whether a classifier does the same work at a smaller side: each of its layers makes as many numbers."""
    return _numbers_made(model, side_px, in_channels) == _numbers_made(model, base_px, in_channels)


def _numbers_made(model: nn.Module, side_px: int, in_channels: int) -> int:
    """Return how many numbers the convolutions and linear layers make of one picture; less than 0 where the model fails."""
    counts: list[int] = []
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    handles = [layer.register_forward_hook(lambda _layer, _inputs, out: counts.append(out.numel())) for layer in layers]
    try:
        problem = try_side(model, side_px, in_channels)[1]
    finally:
        for handle in handles:
            handle.remove()
    return -side_px if problem else sum(counts)


def follows(found: Shapes, expected: Shapes) -> bool:
    """Say whether outputs at a smaller side are as those at the base side, but for dimensions that have places in the picture.

    A tensor of three dimensions or more, such as (B, K, H, W) logits of pixels or (B, M, 4) boxes, may be shorter along any but the
    first; one of fewer, such as (B, K) logits of images, must have the same shape.
    """
    return len(found) == len(expected) and all(_shrinks(now, base) for now, base in zip(found, expected, strict=True))


def _shrinks(now: tuple[int, ...], base: tuple[int, ...]) -> bool:
    is_placed = len(now) == len(base) > 2 and now[0] == base[0]
    return now == base or (is_placed and all(1 <= n <= b for n, b in zip(now, base, strict=True)))


def _words(shapes: Shapes | None) -> str:
    return " and ".join(str(shape) for shape in shapes or ()) or "()"


def try_side(model: nn.Module, side_px: int, in_channels: int) -> tuple[Shapes, str]:
    """Run the model at one side; return the outputs' shapes or, if it fails, the module and the reason."""
    image = torch.zeros(1, in_channels, side_px, side_px)
    try:
        with torch.no_grad():
            out = model(image)
    except Exception as error:  # noqa: BLE001 - whatever a user's model raises is the reason this side is refused
        return (), f"{failing_module(model, image)}: {first_line(error)} (at {side_px} px)"
    return tuple(tuple(part.shape) for part in named_tensors(out).values()), ""


def runs(model: nn.Module, image: torch.Tensor) -> bool:
    """Say whether the model runs on images of this side as it is."""
    return not try_side(model, image.shape[-1], image.shape[1])[1]


def try_resized(model: nn.Module, old_px: int, new_px: int, in_channels: int) -> Shapes:
    """Run a copy of the model that is changed for another side; return the outputs' shapes, or nothing if it fails."""
    try:
        changed = resized(model, old_px, new_px)
    except Exception:  # noqa: BLE001 - a model that cannot be changed refuses the side
        return ()
    return try_side(changed, new_px, in_channels)[0]


def failing_module(model: nn.Module, image: torch.Tensor) -> str:
    """Return the path of the innermost module that raises."""
    with running_module(model) as where, suppress(Exception), torch.no_grad():
        model(image)
    return where()


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextmanager
def running_module(model: nn.Module) -> Iterator[Callable[[], str]]:
    """Follow which module runs; the value names the innermost one, and after an error the one that raised."""
    stack: list[str] = []
    handles = []

    def follow(path: str, module: nn.Module) -> None:
        handles.append(module.register_forward_pre_hook(lambda _m, _a: stack.append(path)))
        handles.append(module.register_forward_hook(lambda _m, _a, _o: stack.remove(path)))

    for path, module in model.named_modules():
        follow(path, module)
    try:
        yield lambda: (stack[-1] if stack else "") or "the model"
    finally:
        for handle in handles:
            handle.remove()
