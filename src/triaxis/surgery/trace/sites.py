"""Where a model's own code writes down a length or a scale that a cut changes: found by running a cut model.

`view(n, tokens, channels)` takes its numbers from the code, and so does ``q * head_width ** -0.5``. Most of them follow the
tensors' shapes or the attributes that a cut corrects; some do not. `ScaleAndLengths` runs beside the channel tracer and notes, for
each call, the labels along each dimension of the result and the numbers that multiply; in a second run, on a cut model, it
compares, repairs the call so that the run goes on, and keeps the place in the source: a `Site`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from triaxis.surgery.trace.atoms import support

SHAPED = {"reshape", "view", "expand"}
SCALED = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__", "__itruediv__", "true_divide", "multiply"}
ATTENTION = "scaled_dot_product_attention"
LIBRARY = ("/torch/_tensor.py", "/torch/functional.py", "/torch/overrides.py", "/torch/nn/functional.py", "/torch/_jit_internal.py")
MAX_FRAMES = 4

Key = tuple[str, str, int]
"""The running module's path, the function's name, and how many such calls it made before."""

Frame = tuple[CodeType, int]
"""Code and the instruction that it is at."""


@dataclass(frozen=True)
class Note:
    """What a call of the base model did: labels or length of each dimension of its result, or the number that it multiplied by."""

    dims: Mapping[int, Tensor | int] = field(default_factory=dict)
    number: float | None = None


@dataclass(frozen=True)
class Site:
    """A call whose numbers must be replaced. `frames` lead from the module's own method to the call.

    `dims` holds, for each dimension whose length is wrong after some cut, the label plane whose survivors along it are the right
    one, or the length itself where nothing goes; `number` is the scale to keep.
    """

    path: str
    frames: tuple[Frame, ...]
    dims: Mapping[int, Tensor | int]
    number: float | None


class ScaleAndLengths(TorchFunctionMode):
    """Note the numbers of one run, or compare them with those of an earlier run.

    Args:
        running: Gives the path of the running module.
        planes: Gives a tensor's label planes; None in a run that compares.
        notes: The earlier run's notes; None in a run that notes.
        survivors: Gives the length that is left along a dimension of a label plane; for a run that compares.
        model: The cut model; for a run that compares.
    """

    def __init__(
        self,
        running: Callable[[], str],
        planes: Callable[[Tensor], list[Tensor]] | None = None,
        notes: Mapping[Key, Note] | None = None,
        survivors: Callable[[Tensor, int], int] | None = None,
        model: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.notes: dict[Key, Note] = {}
        self.sites: dict[Key, Site] = {}
        self._running, self._planes, self._earlier, self._survivors = running, planes, notes, survivors
        self._paths = {id(module): path for path, module in model.named_modules()} if model is not None else {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in SHAPED and name not in SCALED and name != ATTENTION:
            return func(*args, **kwargs)
        path = self._running()
        key = (path, name, self._counts[path, name])
        self._counts[path, name] += 1
        if self._planes is not None:
            out = func(*args, **kwargs)
            self.notes[key] = Note(_along(self._planes(out), out), _number(name, args, kwargs))
            return out
        note = (self._earlier or {}).get(key)
        if note is not None:
            changed = self._compared(name, note, args, kwargs)
            if changed is not None:
                dims, number, args, kwargs = changed
                owner, frames = _frames(sys._getframe(1), self._paths)
                if frames:
                    self.sites[key] = Site(owner, frames, dims, number)
        return func(*args, **kwargs)

    def _compared(self, name: str, note: Note, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the labels or number that must replace what was asked for, and the repaired arguments; None if all is right."""
        if name in SHAPED:
            shape = asked_shape(args[1:], kwargs)
            lengths = {d: p if isinstance(p, int) else self._survivors(p, d) for d, p in note.dims.items()}  # type: ignore[misc]
            wrong = {d: note.dims[d] for d, length in lengths.items() if d < len(shape) and shape[d] not in (-1, length)}
            if not wrong:
                return None
            return wrong, None, (args[0], *(lengths[d] if d in wrong else n for d, n in enumerate(shape))), {}
        number = _number(name, args, kwargs)
        if number is None or note.number is None or abs(number - note.number) <= 1e-9 * abs(note.number):
            return None
        if name == ATTENTION:
            return {}, note.number, args, {**kwargs, "scale": note.number}
        return {}, note.number, tuple(note.number if isinstance(a, float) else a for a in args), kwargs


def asked_shape(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int]:
    """Return the shape that a call of `view` or the like asks for, however it was given; empty for a type."""
    given = args or tuple(kwargs.values())
    if len(given) == 1 and isinstance(given[0], tuple | list | torch.Size):
        given = tuple(given[0])
    return [int(n) for n in given] if all(isinstance(n, int | torch.SymInt) for n in given) else []


def _number(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float | None:
    if name == ATTENTION:
        scale = kwargs.get("scale")
        return float(args[0].shape[-1] ** -0.5 if scale is None else scale)
    if name in SCALED:
        return next((a for a in args if isinstance(a, float)), None)
    return None


def _along(planes: list[Tensor], out: Any) -> dict[int, Tensor | int]:
    """Return for each dimension of a result the plane over it, or its length if it has none."""
    if not isinstance(out, Tensor):
        return {}
    return {**dict(enumerate(out.shape)), **{d: plane for plane in planes for d in support(plane)}}


def _frames(frame: FrameType | None, paths: Mapping[int, str]) -> tuple[str, tuple[Frame, ...]]:
    """Return the module whose method leads to the call, and the frames from there to it; no frames if that cannot be told."""
    found: list[Frame] = []
    while frame is not None and len(found) < MAX_FRAMES:
        code = frame.f_code
        if not code.co_filename.endswith(LIBRARY) or found:
            found.append((code, frame.f_lasti))
            owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
            if isinstance(owner, nn.Module) and id(owner) in paths:
                return paths[id(owner)], tuple(reversed(found))
        frame = frame.f_back
    return "", ()
