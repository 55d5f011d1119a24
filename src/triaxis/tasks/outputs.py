"""Outputs: the tensors in what a model returned, whatever it is, and the one among them that most tasks look at.

Models return a tensor, or tensors in mappings, tuples, lists, dataclasses and other objects, also within each other. `named_tensors`
finds them all, each under its path; surgery, its proof, exported files and timing go by that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Output = Tensor | dict[str, Tensor]
"""What a task makes of a raw output: one tensor with the image first, or several by name."""

MAIN = ("logits", "out")
"""Names under which models that return several things return what they are trained for."""


def named_tensors(raw: Any) -> dict[str, Tensor]:
    """Return the tensors in a raw output in order, each by its path.

    A tensor alone is called ``logits``; others are called as the mapping, the dataclass or the named tuple calls them, or by their place
    in a tuple or list, with dots between: ``out``, ``0``, ``features.1``.
    """
    return {"logits": raw} if isinstance(raw, Tensor) else dict(_walk(raw, "", ()))


def _walk(raw: Any, path: str, around: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(raw, Tensor):
        yield path, raw
    elif id(raw) not in around:
        for name, part in _parts(raw):
            yield from _walk(part, f"{path}.{name}".lstrip("."), (*around, id(raw)))


def _parts(raw: Any) -> list[tuple[str, Any]]:
    """Return what an object holds, by name; nothing of numbers, texts and modules."""
    if isinstance(raw, Mapping):
        return [(str(key), part) for key, part in raw.items()]
    if isinstance(raw, tuple | list):
        return [(str(key), part) for key, part in zip(getattr(raw, "_fields", range(len(raw))), raw, strict=True)]
    if dataclasses.is_dataclass(raw) and not isinstance(raw, type):
        return [(field.name, getattr(raw, field.name)) for field in dataclasses.fields(raw)]
    return [] if isinstance(raw, nn.Module | type) or callable(raw) else list(getattr(raw, "__dict__", {}).items())


def main_output(raw: Any) -> Any:
    """Return the tensor that a model is trained for among what it returned.

    That is the tensor itself; what is called `logits` or `out` in a mapping, a named tuple, a dataclass or another object; the first
    of a plain tuple or list, for in training mode some models return the outputs of auxiliary classifiers after it; or the only
    tensor there is. Where none of these is there, it is `raw`, which the task's check of outputs then refuses.
    """
    if isinstance(raw, Tensor):
        return raw
    held = dict(_parts(raw))
    for name in MAIN:
        if name in held:
            return held[name]
    if isinstance(raw, tuple | list) and not hasattr(raw, "_fields") and raw and isinstance(raw[0], Tensor):
        return raw[0]
    tensors = list(named_tensors(raw).values())
    return tensors[0] if len(tensors) == 1 else raw


def mapped(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return an output with `change` applied to its tensor, or to each of them."""
    return {key: change(part) for key, part in output.items()} if isinstance(output, dict) else change(output)


def tensors_in(output: Output) -> tuple[Tensor, ...]:
    """Return the tensors of an output."""
    return tuple(output.values()) if isinstance(output, dict) else (output,)


def difference(found: Any, expected: Any, *, smallest: float = 1e-12) -> float:
    """Return the largest difference of two raw outputs, each tensor relative to its largest number; infinite if shapes differ, or NaN.

    Args:
        found: What is checked.
        expected: What is right.
        smallest: A tensor whose numbers are all smaller is taken relative to this.
    """
    pairs = tuple(list(named_tensors(raw).values()) for raw in (found, expected))
    if [part.shape for part in pairs[0]] != [part.shape for part in pairs[1]]:
        return float("inf")
    both = [tuple(part.detach().float() for part in pair) for pair in zip(*pairs, strict=True) if pair[0].numel()]
    shares = [float((a - b).abs().max() / b.abs().max().clamp_min(smallest)) for a, b in both]
    return max((share if share == share else float("inf") for share in shares), default=0.0)


class Flat(nn.Module):
    """A model whose raw output is made a tensor, or a mapping of paths to tensors, as files of other formats can hold them.

    Args:
        model: The network; its weights are called ``model.NAME`` here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Output:
        raw = self.model(images)
        return raw if isinstance(raw, Tensor) else named_tensors(raw)


def flat(model: nn.Module, images: Tensor) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a model whose output is flat, and the names of its outputs: the model itself where it returns a tensor.

    Args:
        model: The network, in evaluation mode.
        images: (B, C, S, S) to run once.
    """
    raw = model(images)
    return model if isinstance(raw, Tensor) else Flat(model).train(model.training), tuple(named_tensors(raw))
