"""Run a model once and see what it does: which channels must be cut together, and what went into and out of each module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from triaxis.surgery.trace import rules_attention, rules_layers, rules_shapes  # noqa: F401 - they register their rules
from triaxis.surgery.trace.atoms import Atoms, squeezed, support
from triaxis.surgery.trace.attention import plain_attention
from triaxis.surgery.trace.rules import rule_for, tensors_in
from triaxis.surgery.trace.sites import Key, Note, ScaleAndLengths
from triaxis.tasks.outputs import named_tensors

Units = Literal["heads", "width"]


@dataclass
class Call:
    """One call of one module: shapes, identities (to follow chains) and channel labels of what went in and out."""

    path: str
    order: int
    inputs: list[Tensor]
    extra: bool
    outputs: list[Tensor] = field(default_factory=list)
    in_labels: Tensor | None = None
    out_labels: Tensor | None = None
    end: int = -1
    given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    @property
    def is_plain(self) -> bool:
        """Whether one tensor went in and one came out, and nothing else did."""
        return len(self.inputs) == 1 and len(self.outputs) == 1 and not self.extra


@dataclass(frozen=True)
class Sizes:
    """A module took a channel dimension apart: the labels of the whole and of each piece.

    Where the module keeps those lengths as attributes, a cut must change them too.
    """

    path: str
    whole: Tensor
    pieces: tuple[Tensor, ...]


@dataclass(frozen=True)
class Split:
    """A view took a channel dimension apart into several, as attention does into heads and their width.

    One of the new dimensions keeps labels of its own (`labels`), the other's positions go in step with it. `lengths` are the new
    dimensions' in order, `kept` says which one it is.
    """

    path: str
    lengths: tuple[int, ...]
    kept: int
    labels: Tensor


class ChannelTracer(TorchDispatchMode):
    """Follow channel labels through every tensor operation of one forward pass at batch 1.

    Tensors are kept alive while tracing, so that an address is never used twice. `units` says, by module, whether a channel
    dimension that is viewed as several is cut by ``heads`` (the last new dimension but one) or ``width`` (the last).
    """

    def __init__(self, model: nn.Module, units: Mapping[str, Units] | None = None) -> None:
        super().__init__()
        self.atoms = Atoms()
        self.calls: list[Call] = []
        self.inexact: set[str] = set()
        self.sizes: list[Sizes] = []
        self.splits: list[Split] = []
        self.attending: set[str] = set()
        self.notes: dict[Key, Note] = {}
        self._units = units or {}
        self._repeats: set[int] = set()
        self.labelled: dict[tuple[str, int], Tensor] = {}
        self._names = {id(t): name for name, t in [*model.named_parameters(), *model.named_buffers()] if t.ndim and t.is_floating_point()}
        self._planes: dict[int, list[Tensor]] = {}
        self._alive: list[Any] = []
        self._stack: list[Call] = []
        self._clock = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self._alive += tensors_in([out])
        rule_for(func)(self, func, args, kwargs, out)
        return out

    def planes(self, tensor: Tensor) -> list[Tensor]:
        """Return the label planes of a tensor; a parameter gets one for each dimension that could lose positions."""
        if id(tensor) not in self._planes and id(tensor) in self._names:
            name = self._names[id(tensor)]
            dims = range(min(tensor.ndim, 2)) if tensor.ndim >= 4 else range(tensor.ndim)
            self._planes[id(tensor)] = [self._fresh(name, tensor, d) for d in dims if tensor.shape[d] > 1]
        return self._planes.get(id(tensor), [])

    def _fresh(self, name: str, tensor: Tensor, dim: int) -> Tensor:
        labels = self.labelled[(name, dim)] = self.atoms.new(tensor.shape[dim])
        return labels.reshape([-1 if d == dim else 1 for d in range(tensor.ndim)])

    def label(self, tensor: Tensor, planes: list[Tensor]) -> None:
        """Set the planes of a result; a plane that varies over nothing is no longer a choice, so it is pinned.

        Labels that are pinned say no more than no label does, and are dropped.
        """
        for plane in planes:
            if not support(plane):
                self.pin(plane, "it is used alone")
        self._planes[id(tensor)] = [p for p in planes if support(p) and not self.atoms.all_pinned(p)]

    def canonical(self, plane: Tensor) -> Tensor:
        """Return the plane with each label replaced by its class, and dimensions that became constant dropped."""
        return squeezed(self.atoms.find(plane))

    def pin(self, plane: Tensor, reason: str) -> None:
        """Keep these channels, naming the module that is running."""
        where = self._stack[-1].path if self._stack else ""
        self.atoms.pin(plane, f"{where or 'the model'}: {reason}")

    def note_inexact(self) -> None:
        """Remember that the running module's statistics depend on how many channels there are."""
        self.inexact.add(self._stack[-1].path if self._stack else "")

    def note_sizes(self, plane: Tensor, pieces: list[Tensor]) -> None:
        """Remember into which lengths the running module takes a channel dimension apart."""
        if self._stack and len(support(plane)) == 1:
            flat = tuple(p.reshape(-1) for p in pieces if len(support(p)) == 1)
            self.sizes.append(Sizes(self._stack[-1].path, plane.reshape(-1), flat))

    def kept_dim(self, dims: Iterable[int], shape: Sequence[int]) -> int:
        """Return which of the dimensions that a channel dimension becomes keeps labels of its own: by default the widest."""
        ordered = sorted(dims)
        units = self._units.get(self._stack[-1].path if self._stack else "")
        if units is None:
            return max(ordered, key=lambda d: shape[d])
        return ordered[-1] if units == "width" else ordered[-2]

    def note_split(self, lengths: tuple[int, ...], kept: int, labels: Tensor) -> None:
        """Remember how the running module takes a channel dimension apart."""
        self.splits.append(Split(self._stack[-1].path if self._stack else "", lengths, kept, labels))

    def note_product(self, first: Tensor, second: Tensor) -> None:
        """Remember that the running module multiplies activations, as attention does."""
        if id(first) not in self._names and id(second) not in self._names:
            self.attending.add(self._stack[-1].path if self._stack else "")

    def repeats(self, count: int) -> Tensor:
        """Return new labels for one position that is repeated."""
        labels = self.atoms.new(count)
        self._repeats.update(labels.tolist())
        return labels

    def is_repeat(self, plane: Tensor) -> bool:
        """Say whether a plane's labels are of a repeated position, and have met no others."""
        return bool(self._repeats) and self._repeats.issuperset(self.atoms.find(plane).unique().tolist())

    def counts_heads(self, labels: Tensor) -> bool:
        """Say whether these labels are one for each head, where whole heads are cut."""
        heads = [s.labels for s in self.splits if self._units.get(s.path) == "heads"]
        roots = self.atoms.find(labels).unique()
        return len(roots) == len(labels) and bool(heads) and bool(torch.isin(roots, self.atoms.find(torch.cat(heads))).all())

    def running(self) -> str:
        """Return the path of the running module."""
        return self._stack[-1].path if self._stack else ""

    def enter(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record that a module is called."""
        inputs = list(named_tensors((*args, *kwargs.values())).values())
        extra = len(args) != 1 or any(v is not None for v in kwargs.values()) or not isinstance(args[0], Tensor)
        call = Call(path, self._tick(), inputs, extra, in_labels=self.channel_labels(inputs), given=(args, kwargs))
        self.calls.append(call)
        self._stack.append(call)

    def leave(self, out: Any) -> None:
        """Record what the innermost running module returned."""
        call = self._stack.pop()
        call.end = self._tick()
        call.outputs = list(named_tensors(out).values())
        self._alive += [*call.inputs, *call.outputs]
        call.out_labels = self.channel_labels(call.outputs)

    def channel_labels(self, tensors: list[Tensor]) -> Tensor | None:
        """Return the channel labels of tensors, one after the other, or None if one of them has none."""
        flat = [next((p.reshape(-1) for p in self.planes(t) if len(support(p)) == 1), None) for t in tensors]
        known = [labels for labels in flat if labels is not None]
        return torch.cat(known) if known and len(known) == len(flat) else None

    def release(self) -> None:
        """Let go of all activations; calls keep their shapes."""
        self._alive.clear()
        self._planes.clear()
        for call in self.calls:
            call.given = ((), {})
            call.inputs = [torch.empty(t.shape, device="meta") for t in call.inputs]
            call.outputs = [torch.empty(t.shape, device="meta") for t in call.outputs]

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def trace(model: nn.Module, example: Tensor, units: Mapping[str, Units] | None = None) -> ChannelTracer:
    """Run `model` once on `example` (batch 1) and return what was seen; the outputs' channels are pinned.

    `units` are those of `ChannelTracer`.
    """
    tracer = ChannelTracer(model, units)
    numbers = ScaleAndLengths(tracer.running, tracer.planes)
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(_entering(tracer, path), with_kwargs=True))
        handles.append(module.register_forward_hook(_leaving(tracer)))
    try:
        with torch.no_grad(), plain_attention(), tracer, numbers:
            out = model(example)
    finally:
        for handle in handles:
            handle.remove()
    for tensor in named_tensors(out).values():
        for plane in tracer.planes(tensor):
            tracer.pin(plane, "it is the model's output")
    tracer.notes = numbers.notes
    return tracer


def _entering(tracer: ChannelTracer, path: str) -> Callable[..., None]:
    def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with torch._C.DisableTorchFunction():  # what the tracer does itself is not the model's
            tracer.enter(path, args, kwargs)

    return enter


def _leaving(tracer: ChannelTracer) -> Callable[..., None]:
    def leave(_module: nn.Module, _args: Any, out: Any) -> None:
        with torch._C.DisableTorchFunction():
            tracer.leave(out)

    return leave
