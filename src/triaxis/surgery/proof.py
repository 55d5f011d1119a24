"""Prove by running that cuts are right: a cut model must agree with the masked one on shaken weights.

Weights are shaken because an untrained or freshly initialised model may hide a mistake behind a scale of zero.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from time import thread_time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from triaxis.surgery.cut.sides import failing_module, first_line
from triaxis.tasks.outputs import difference, named_tensors
from triaxis.values import PrunePlan

if TYPE_CHECKING:
    from triaxis.surgery.surgeon import Surgeon

TOLERANCE = 1e-3
MIN_GAIN = 0.7
"""Least size of what a matrix of `shaken` weights makes, relative to what it reads."""


LENGTH = 16.0
"""What `PlainNorms` brings the length of a vector to: that of 256 channels of size 1."""


class PlainNorms(TorchDispatchMode):
    """Replace normalisation over channels by division by the length of the vector, and its scale and shift.

    Means over channels depend on how many channels there are, so that a cut and a masked model differ there by design. A sum
    does not change by zeros; with it everything else can be compared exactly, and numbers stay near 1 in deep networks.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "native_layer_norm":
            return _scaled(_unit(args[0], len(args[1])), args[2], args[3]), args[0].new_zeros(1), args[0].new_ones(1)
        if name == "_fused_rms_norm":
            return _scaled(_unit(args[0], len(args[1])), args[2], None), args[0].new_ones(1)
        if name == "rms_norm":
            return _scaled(_unit(args[0], len(args[1])), args[2] if len(args) > 2 else None, None)
        if (name == "native_group_norm" and args[6] == 1) or (name == "native_batch_norm" and args[5]):
            shape = [1, -1] + [1] * (args[0].ndim - 2)
            scale, shift = (None if t is None else t.reshape(shape) for t in args[1:3])
            x = _unit(args[0], args[0].ndim - 1) if name == "native_group_norm" else args[0]
            return _scaled(x, scale, shift), args[0].new_zeros(1), args[0].new_ones(1)
        return func(*args, **(kwargs or {}))


def _unit(x: Tensor, num_dims: int) -> Tensor:
    """Return `x` with vectors over the last dimensions brought to one length."""
    squares = x.square().sum(tuple(range(x.ndim - num_dims, x.ndim)), keepdim=True)
    return x * (LENGTH * (squares + 1e-6).rsqrt())


def _scaled(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    scaled = x * scale if scale is not None else x.clone()
    return scaled + shift if shift is not None else scaled


def shaken(model: nn.Module) -> dict[str, Tensor]:
    """Return new values for vectors and constant tensors: around 1 for scales and variances, around 0 for the rest.

    Matrices that make things small are enlarged, for attention with products near zero would hide what they are multiplied by.
    """
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point() or tensor.numel() < 2:
            continue
        noise = torch.rand(tensor.shape, generator=generator)
        spread, size = float(tensor.detach().std()), float(tensor.detach().abs().mean())
        if tensor.ndim == 1:
            state[name] = noise + 0.5 if name.endswith(("weight", "var", "gamma", "gain")) else 0.4 * noise - 0.2
        elif spread <= 1e-3 * size:
            state[name] = noise + 0.5
        elif tensor.ndim == 2 and (gain := spread * tensor.shape[1] ** 0.5) < MIN_GAIN:
            state[name] = tensor.detach() * (MIN_GAIN / gain)
    return state


def disagreement(first: nn.Module, second: nn.Module, example: Tensor, *, plain_norms: bool = False) -> float:
    """Return the largest difference of two models' outputs, relative to the largest number in each; infinite if shapes differ."""
    with torch.no_grad():
        return difference(_outputs(first, example, plain_norms), _outputs(second, example, plain_norms))


def _outputs(model: nn.Module, example: Tensor, plain_norms: bool) -> dict[str, Tensor]:
    with PlainNorms() if plain_norms else contextlib.nullcontext():
        return named_tensors(model(example))


@dataclasses.dataclass
class Proof:
    """Tries cuts of one surgeon on shaken weights at its smallest side."""

    surgeon: Surgeon
    deadline: float

    def __post_init__(self) -> None:
        self.side_px = side = self.surgeon.anatomy.sides_px[-1]
        generator = torch.Generator().manual_seed(1)
        self.example = torch.randn(2, self.surgeon.anatomy.in_channels, side, side, generator=generator)
        self.state = shaken(self.surgeon.base)

    def problem(self, plan: PrunePlan) -> str:
        """Return what is wrong with the cut of a plan, naming the module where it fails; empty if nothing is."""
        model = self.surgeon.cut(plan, self.state)
        plain = bool(self.surgeon.tracer.inexact)
        with torch.no_grad():
            try:
                outputs = _outputs(model, self.example, plain)
            except Exception as error:  # noqa: BLE001 - whatever the model raises is the reason
                return f"{failing_module(model, self.example)} fails after the cut: {first_line(error)}"
            found = difference(outputs, _outputs(self.surgeon.masked(plan, self.state), self.example, plain))
        return "" if found < TOLERANCE else f"the cut model differs from the masked one by {found:.2g} of its output"

    def faulty_groups(self) -> dict[str, str]:
        """Return {channel group: problem} of the groups that cannot be cut."""
        found: dict[str, str] = {}
        for width in (0.5, self.surgeon.min_width):
            plan = self.surgeon.plan(width=width, side_px=self.side_px, importance="random")
            names = [c.group for c in plan.channels if c.group not in found]
            found |= self._faulty(names, lambda some, plan=plan: self.problem(_only(plan, some)))  # type: ignore[misc]
        return found

    def faulty_blocks(self) -> dict[str, str]:
        """Return {block: problem} of the blocks that cannot go, with and without the channels cut too."""
        plan = self.surgeon.plan(side_px=self.side_px)
        while choice := self.surgeon.removable(plan):
            plan = dataclasses.replace(plan, removed_blocks=(*plan.removed_blocks, choice[-1]))
        removed = plan.removed_blocks
        found = self._faulty(list(removed), lambda some: self.problem(self.surgeon.plan(removed_blocks=tuple(some), side_px=self.side_px)))
        left = tuple(name for name in removed if name not in found)
        return found | self._faulty(
            list(left),
            lambda some: self.problem(self.surgeon.plan(removed_blocks=tuple(some), width=0.5, side_px=self.side_px, importance="random")),
        )

    def _faulty(self, names: Sequence[str], problem: Callable[[Sequence[str]], str]) -> dict[str, str]:
        """Find by bisection the names that fail; after the deadline all that are not yet proved right count as failing."""
        if not names or not (reason := problem(names)):
            return {}
        if len(names) == 1:
            return {names[0]: reason}
        if thread_time() > self.deadline:
            return dict.fromkeys(names, f"{reason} (the time limit ended the search for the one at fault)")
        half = len(names) // 2
        found = self._faulty(names[:half], problem) | self._faulty(names[half:], problem)
        return found or dict.fromkeys(names, f"{reason}, together with other channels")


def _only(plan: PrunePlan, names: Sequence[str]) -> PrunePlan:
    return dataclasses.replace(plan, channels=tuple(c for c in plan.channels if c.group in names))
