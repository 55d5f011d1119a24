"""Read a model: trace it, decide for each attention whether it is cut by heads or by their width, and find fixed numbers.

A projection to heads makes channels that count along two dimensions: heads, and positions within a head. A unit of a channel
group is one of them: a whole head, or the same position of all heads. Both are tried; heads are taken where there are at least
`MIN_HEADS`, for then they offer enough levels and leave each head as it was trained, and the width where there are fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from triaxis.errors import TriaxisError, UnsupportedModelError
from triaxis.surgery.cut.sides import first_line
from triaxis.surgery.find.blocks import inside, weighted_paths
from triaxis.surgery.find.channels import ChannelGroup
from triaxis.surgery.trace.attention import plain_attention
from triaxis.surgery.trace.sites import Key, ScaleAndLengths, Site
from triaxis.surgery.trace.tracing import ChannelTracer, Units, trace
from triaxis.values import PrunePlan

if TYPE_CHECKING:
    from triaxis.surgery.surgeon import Surgeon

MIN_HEADS = 4


@dataclass(frozen=True)
class Reading:
    """A trace, and by module how its heads are cut and how else they could be."""

    tracer: ChannelTracer
    units: Mapping[str, Units] = field(default_factory=dict)
    others: Mapping[str, Units] = field(default_factory=dict)


def read(base: nn.Module, example: Tensor) -> Reading:
    """Trace a model with the better unit for each attention.

    Raises:
        UnsupportedModelError: The model does not run on such images.
    """
    first = traced(base, example, {})
    paths = _attentions(first)
    if not paths:
        return Reading(first)
    by_width, by_heads = (traced(base, example, dict.fromkeys(paths, units)) for units in ("width", "heads"))
    units: dict[str, Units] = {}
    others: dict[str, Units] = {}
    for path in paths:
        widths, heads = _num_open(by_width, path), _num_open(by_heads, path)
        many = max((s.lengths[s.kept] for s in by_heads.splits if s.path == path), default=0) >= MIN_HEADS
        units[path] = "heads" if heads and (many or not widths) else "width"
        if heads and widths:
            others[path] = "width" if units[path] == "heads" else "heads"
    kinds = set(units.values())
    tracer = traced(base, example, units) if len(kinds) > 1 else by_heads if kinds == {"heads"} else by_width
    return Reading(tracer, units, others)


def read_otherwise(base: nn.Module, example: Tensor, reading: Reading, groups: Sequence[ChannelGroup]) -> Reading | None:
    """Trace again with the other unit for the attentions whose channels are in these groups; None if none of them has one."""
    roots = torch.cat([g.roots for g in groups])
    atoms = reading.tracer.atoms
    paths = {s.path for s in reading.tracer.splits if s.path in reading.others and torch.isin(atoms.find(s.labels), roots).any()}
    if not paths:
        return None
    units: dict[str, Units] = {**reading.units, **{path: reading.others[path] for path in paths}}
    others = {path: other for path, other in reading.others.items() if path not in paths}
    return Reading(traced(base, example, units), units, others)


def _attentions(tracer: ChannelTracer) -> list[str]:
    """Return the modules that take channels apart and multiply activations, themselves or in a module beside, inside or around."""
    near = {*tracer.attending, *(path.rpartition(".")[0] for path in tracer.attending)}
    paths = dict.fromkeys(s.path for s in tracer.splits)
    return [p for p in paths if p in near or p.rpartition(".")[0] in near - {""} or any(inside(a, p) for a in tracer.attending)]


def _num_open(tracer: ChannelTracer, path: str) -> int:
    """Return how many separate choices a module's heads offer; 0 if any of them is held."""
    pinned = tracer.atoms.pinned()
    counts = []
    for split in (s for s in tracer.splits if s.path == path):
        classes = tracer.atoms.find(split.labels).unique().tolist()
        counts.append(0 if any(c in pinned for c in classes) or len(classes) < 2 else len(classes))
    return min(counts, default=0)


def traced(base: nn.Module, example: Tensor, units: Mapping[str, Units]) -> ChannelTracer:
    """Trace in eval mode; if layers are idle then (auxiliary classifiers), with their owners in training mode, where that works."""
    try:
        tracer = trace(base, example, units)
    except TriaxisError:
        raise
    except Exception as error:
        shape = tuple(example.shape)
        raise UnsupportedModelError(f"The model must run on images of shape {shape}, but it fails: {first_line(error)}.") from error
    called = {call.path for call in tracer.calls}
    idle = weighted_paths(base) - called
    owners = [base.get_submodule(path.rpartition(".")[0]) for path in idle if path.rpartition(".")[0] in called]
    try:
        for owner in owners:
            owner.training = True
        wider = trace(base, example, units) if owners else tracer
    except Exception:  # noqa: BLE001 - a part that cannot run at this side is left out, as in eval mode
        wider = tracer
    base.eval()
    return wider if called <= {call.path for call in wider.calls} else tracer


def find_sites(surgeon: Surgeon, example: Tensor) -> tuple[Site, ...]:
    """Run cut models and return the calls whose numbers neither the tensors' shapes nor the modules' attributes make right.

    Of each two channel groups one is cut and the other is not in some run, so that no two lengths agree by chance in all.
    """
    full = surgeon.plan(width=0.5, importance="random")
    found: dict[Key, Site] = {}
    for turn in range(len(full.channels).bit_length() + 1):
        chosen = tuple(c for i, c in enumerate(full.channels, 1) if not turn or i >> (turn - 1) & 1)
        for key, site in _compared(surgeon, replace(full, channels=chosen), example).items():
            found[key] = replace(site, dims={**site.dims, **found[key].dims}) if key in found else site
    return tuple(found.values())


def _compared(surgeon: Surgeon, plan: PrunePlan, example: Tensor) -> dict[Key, Site]:
    """Run one cut model and return the calls whose numbers are wrong there."""
    loss, atoms, model = surgeon.loss(plan), surgeon.tracer.atoms, surgeon.cut(plan)
    stack: list[str] = []
    numbers = ScaleAndLengths(
        lambda: stack[-1] if stack else "",
        notes=surgeon.tracer.notes,
        survivors=lambda plane, dim: loss.length(atoms, plane, dim),
        model=model,
    )
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda _m, _inputs, name=name: stack.append(name))
        module.register_forward_hook(lambda _m, _inputs, _out: stack.__delitem__(-1))
    with suppress(Exception), torch.no_grad(), plain_attention(), numbers:
        model(example)
    return numbers.sites
