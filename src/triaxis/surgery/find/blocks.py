"""Find the blocks that depth pruning can remove, by what the traced model does; no list of class names.

* residual: with its parameters zeroed, the module returns its input (or an activation of it). The innermost such module
  is the block, so that a block is neither a stage nor a piece of a branch.
* dense: what the module makes is later concatenated to what it read. The outermost such module is the block.
* sequence: in a model without skip connections, a run of modules that keeps its input's shape.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from triaxis.surgery.find.channels import ChannelGroup
from triaxis.surgery.trace.tracing import Call, ChannelTracer

Kind = Literal["residual", "sequence", "dense"]
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
GENERIC: set[type] = {nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear}


@dataclass(frozen=True)
class Block:
    """One block: `calls` are its modules' calls in order.

    `made` are the channel groups that vanish with a dense block; `passes_input` says that its output holds its input, so
    that the input takes its place, and nothing otherwise; `why` it cannot be removed.
    """

    name: str
    kind: Kind
    is_removable: bool
    calls: tuple[Call, ...]
    made: tuple[str, ...] = ()
    passes_input: bool = True
    why: str = ""

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the modules that go with the block."""
        return tuple(call.path for call in self.calls)


def find_blocks(model: nn.Module, tracer: ChannelTracer, groups: list[ChannelGroup]) -> list[Block]:
    """Return all blocks in the order they run, those that cannot be removed too."""
    weighted = weighted_paths(model)
    times = Counter(call.path for call in tracer.calls)
    once = [call for call in tracer.calls if times[call.path] == 1 and call.path in weighted and call.path and call.end >= 0]
    found = residual_blocks(model, once)
    found += dense_blocks(model, once, tracer, groups, [b.name for b in found])
    if not found:
        found = sequence_blocks(model, once, tracer)
    found += _alike(model, found, once)
    return sorted(found, key=lambda block: block.calls[0].order)


def weighted_paths(model: nn.Module) -> set[str]:
    """Return the paths of modules that hold a convolution or linear layer, or are one."""
    leaves = [path for path, module in model.named_modules() if isinstance(module, LAYERS)]
    return {leaf[:end] for leaf in leaves for end in _prefix_ends(leaf)}


def _prefix_ends(path: str) -> list[int]:
    return [i for i, letter in enumerate(path) if letter == "."] + [len(path)]


def inside(path: str, outer: str) -> bool:
    """Say whether `path` is a proper descendant of `outer`."""
    return path.startswith(f"{outer}.") if outer else bool(path)


def keeps_shape(call: Call) -> bool:
    """Say whether one tensor went in and one of the same shape came out; only images and token grids count."""
    return call.is_plain and call.inputs[0].shape == call.outputs[0].shape and call.inputs[0].ndim >= 3


def residual_blocks(model: nn.Module, calls: Iterable[Call]) -> list[Block]:
    """Return the innermost modules that return their input when their parameters are zero; a block's small parts are none."""
    modules = dict(model.named_modules())
    candidates = [c for c in calls if passes_on(c) and not isinstance(modules[c.path], LAYERS)]
    found: list[Block] = []
    for call in sorted(candidates, key=lambda c: -c.path.count(".")):
        within = [b for b in found if inside(b.name, call.path)]
        if (within and not _wraps(modules, call.path, within)) or not returns_input(modules[call.path], call.outputs[0].shape, call.given):
            continue
        found = [b for b in found if b not in within] + [Block(call.path, "residual", True, (call,))]
    return found


def _wraps(modules: dict[str, nn.Module], path: str, within: list[Block]) -> bool:
    """Say whether a module is a block around small residual parts (token mixers, encodings of positions), and no container of blocks."""
    parts = sum(p.numel() for block in within for p in modules[block.name].parameters())
    return type(modules[path]) not in GENERIC and 2 * parts < sum(p.numel() for p in modules[path].parameters())


def passes_on(call: Call) -> bool:
    """Say whether the first of the arguments is a map or tokens and one result has its shape; sides or masks may be given too."""
    first = call.given[0][:1]
    return bool(first) and isinstance(first[0], Tensor) and first[0].ndim >= 3 and [t.shape for t in call.outputs] == [first[0].shape]


def returns_input(module: nn.Module, shape: torch.Size, given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})) -> bool:
    """Say whether a module with zero parameters returns its input, or an activation of it such as ReLU, SiLU or GELU.

    Such activations lie between 0 and the input, and near the input where that is large; a gate or an average does not.
    `given` are the arguments of the call that was seen, of which the first is replaced.
    """
    zeroed = copy.deepcopy(module)
    args, kwargs = given
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 11 - 5.5
    with torch.no_grad():
        for parameter in zeroed.parameters():
            parameter.zero_()
        try:
            y = zeroed(x.clone(), *args[1:], **kwargs)
        except Exception:  # noqa: BLE001 - a module that cannot run alone is no block
            return False
    if not isinstance(y, Tensor) or y.shape != x.shape:
        return False
    is_between = (y >= x.clamp(max=0) - 1e-4) & (y <= x.clamp(min=0) + 1e-4)
    return bool(is_between.all() and (y >= 0.9 * x)[x >= 2.5].all())


def dense_blocks(model: nn.Module, calls: list[Call], tracer: ChannelTracer, groups: list[ChannelGroup], taken: list[str]) -> list[Block]:
    """Return the outermost modules whose output is concatenated to what they read, two or more side by side."""
    unions = {_classes(tracer, labels) for call in tracer.calls for labels in (call.in_labels, call.out_labels)}
    owners = {int(root): group for group in groups for root in group.roots}
    candidates: dict[str, Block] = {}
    for call in calls:
        if any(inside(name, call.path) or inside(call.path, name) or name == call.path for name in taken):
            continue
        made = _made(tracer, call, unions, owners)
        if made:
            candidates[call.path] = Block(call.path, "dense", True, (call,), tuple(g.name for g in made), _passes_input(tracer, call))
    beside = Counter(path.rpartition(".")[0] for path in candidates)
    containers = {path for path in candidates if any(inside(parent, path) or parent == path for parent, n in beside.items() if n > 1)}
    chosen = {path: block for path, block in candidates.items() if path not in containers and beside[path.rpartition(".")[0]] > 1}
    return [block for path, block in chosen.items() if not any(inside(path, other) for other in chosen)]


def _classes(tracer: ChannelTracer, labels: Tensor | None) -> frozenset[int]:
    return frozenset(tracer.atoms.find(labels).tolist()) if labels is not None else frozenset()


def _passes_input(tracer: ChannelTracer, call: Call) -> bool:
    return _classes(tracer, call.in_labels) <= _classes(tracer, call.out_labels)


def _made(tracer: ChannelTracer, call: Call, unions: set[frozenset[int]], owners: dict[int, ChannelGroup]) -> list[ChannelGroup]:
    """Return the groups a dense layer makes: later seen beside all it read, made inside it, and nobody's only input."""
    is_image = bool(call.outputs) and call.outputs[0].ndim == 4
    if not is_image or call.in_labels is None or call.inputs[0].shape[2:] != call.outputs[0].shape[2:]:
        return []
    read, out = _classes(tracer, call.in_labels), _classes(tracer, call.out_labels)
    new = out - read
    both = read | new
    if not new or any(root not in owners for root in new) or not any(len(union) >= len(both) and union >= both for union in unions - {out}):
        return []
    groups = {owners[root].name: owners[root] for root in new}
    complete = sum(g.num_units for g in groups.values()) == len(new)
    if not complete or not all(inside(f"{g.name.partition('#')[0]}.", call.path) for g in groups.values()):
        return []
    return list(groups.values()) if _leaves_inputs(tracer, call.path, groups.values()) else []


def _leaves_inputs(tracer: ChannelTracer, path: str, groups: Iterable[ChannelGroup]) -> bool:
    """Say whether every tensor outside the module keeps a position when these groups go."""
    lost: Counter[tuple[str, int]] = Counter()
    for group in groups:
        for member in group.members:
            if not inside(member.tensor, path):
                lost[member.tensor, member.dim] += len(member.positions)
    return all(count < len(tracer.labelled[place]) for place, count in lost.items())


def sequence_blocks(model: nn.Module, calls: list[Call], tracer: ChannelTracer) -> list[Block]:
    """Return the outermost shape-keeping modules that are no chain of such; a lone layer takes its norm and activation along."""
    keeping = {call.path: call for call in calls if keeps_shape(call)}
    weighted = weighted_paths(model)
    modules = dict(model.named_modules())
    chains = {path for path in keeping if _is_chain(path, keeping, tracer.calls, weighted)}
    chosen: list[str] = []
    for path in sorted((p for p in keeping if p not in chains), key=lambda p: p.count(".")):
        kinds = {type(modules[p]) for p in chosen} - GENERIC
        above = [path[:end] for end in _prefix_ends(path)[:-1]]
        if not any(outer in chosen or type(modules[outer]) in kinds for outer in above):
            chosen.append(path)
    return [Block(path, "sequence", True, _run(keeping[path], tracer.calls, weighted)) for path in chosen]


def _is_chain(path: str, keeping: dict[str, Call], calls: list[Call], weighted: set[str]) -> bool:
    """Say whether a module hands its input to its output through shape-keeping children, two or more one after the other."""
    whole = keeping[path]
    runs = [_run(c, calls, weighted) for p, c in keeping.items() if p.rpartition(".")[0] == path]
    starts = {id(run[0].inputs[0]) for run in runs}
    ends = {id(run[-1].outputs[0]) for run in runs}
    if id(whole.inputs[0]) not in starts or id(whole.outputs[0]) not in ends:
        return False
    return bool(starts & ends) or (len(runs) == 1 and _is_chain(runs[0][0].path, keeping, calls, weighted))


def _run(call: Call, calls: list[Call], weighted: set[str]) -> tuple[Call, ...]:
    """Return a call and the calls of its weightless siblings that follow it, each fed by the one before."""
    run = [call]
    parent = call.path.rpartition(".")[0]
    for later in calls:
        if later.order > run[-1].end and later.path.rpartition(".")[0] == parent:
            if later.path in weighted or not keeps_shape(later) or later.inputs[0] is not run[-1].outputs[0]:
                break
            run.append(later)
    return tuple(run)


def _alike(model: nn.Module, found: list[Block], calls: list[Call]) -> list[Block]:
    """Return the blocks of the same kinds that cannot be removed: same class, elsewhere or where the shape changes."""
    modules = dict(model.named_modules())
    kinds = {type(modules[b.name]): b.kind for b in found}
    parents = {b.name.rpartition(".")[0] for b in found}
    taken = [b.name for b in found]
    others = []
    for call in calls:
        kind = kinds.get(type(modules[call.path]))
        if kind is None or call.path in taken or any(inside(call.path, t) or inside(t, call.path) for t in taken):
            continue
        generic = type(modules[call.path]) in GENERIC
        if len(call.outputs) == 1 and call.outputs[0].ndim >= 3 and (not generic or call.path.rpartition(".")[0] in parents):
            others.append(Block(call.path, kind, False, (call,), why=_why_not(call)))
    return [b for b in others if not any(inside(b.name, o.name) for o in others)]


def _why_not(call: Call) -> str:
    return "its input cannot pass in its place" if passes_on(call) else "its output has another shape than its input"


def stages(blocks: list[Block]) -> dict[str, str]:
    """Return {block: stage}: consecutive siblings with one output shape, named after the first; dense layers by side alone."""
    named: dict[str, str] = {}
    previous, stage = None, ""
    for block in blocks:
        shape = tuple(block.calls[-1].outputs[0].shape[2 if block.kind == "dense" else 1 :])
        key = (block.name.rpartition(".")[0], shape)
        if key != previous:
            previous, stage = key, block.name
        named[block.name] = stage
    return named
