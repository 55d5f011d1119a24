"""The cost of every cut on the lattice: counted on really cut copies, or measured on a sample of them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import nn

from triaxis.profiling.latency import measure_latency
from triaxis.profiling.macs import COUNTED, Work, work
from triaxis.surgery.planning import Scope
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import CostTable, Metric

log = logging.getLogger(__name__)

Cost = Callable[[nn.Module, int], float]
"""Cost of a cut model at a side in pixels."""

SAMPLED_LEVELS = (3, 5, 4)
"""Depth, width and resolution levels on which a measured metric is sampled."""


def count_costs(
    surgeon: Surgeon, block_order: Sequence[str], *, min_depth: float, in_channels: int, importance: str = "first", scope: Scope = "uniform"
) -> CostTable:
    """Return MACs and parameters of every cut, each counted on a really cut copy.

    The side changes only how often each weight is used, so one pass of the uncut model per side serves all cuts. Where the
    width changes that too (matrix products of attention, layers over tokens), each cut copy is run at one side, and its numbers
    grow with the side as the uncut model's do: a factor of theirs depends on the channels or on the side, never on both.

    Args:
        surgeon: Knows the base model and its lattice.
        block_order: Removable blocks in the order in which they go.
        min_depth: Smallest keep ratio of depth on the lattice.
        in_channels: Channels of the input image.
        importance: Decides how many channels each group keeps where the scope is global; of no effect where it is uniform.
        scope: As for `Surgeon.plan`.
    """
    num_blocks = surgeon.identity().num_blocks
    num_removed = [n for n in range(len(block_order) + 1) if n == 0 or (num_blocks - n) / num_blocks >= min_depth - 1e-9]
    widths, sides = surgeon.width_levels(), surgeon.sides_px()
    bases = [surgeon.cut(surgeon.plan(side_px=side)) for side in sides]
    uses = [work(base, (in_channels, side, side)) for base, side in zip(bases, sides, strict=True)]
    sizes = [{name: p.numel() for name, p in base.named_parameters()} for base in bases]
    last_shape = (in_channels, sides[-1], sides[-1])
    narrow = work(surgeon.cut(surgeon.plan(width=widths[-1], side_px=sides[-1], importance="first")), last_shape)
    # A layer over tokens has channels as its rows, and heads are rows of attention: then no pass of the uncut model tells a cut's.
    must_run = bool(uses[-1].products) or narrow.positions != uses[-1].positions
    macs = np.empty((len(num_removed), len(widths), len(sides)))
    params = np.empty_like(macs)
    achieved = []
    for (i, n), (j, width) in itertools.product(enumerate(num_removed), enumerate(widths)):
        plan = surgeon.plan(removed_blocks=tuple(block_order[:n]), width=width, side_px=sides[-1], importance=importance, scope=scope)
        cut = surgeon.cut(plan)
        own = work(cut, last_shape) if must_run else uses[-1]
        macs[i, j] = _macs(cut, own, uses)
        params[i, j] = _grown({name: p.numel() for name, p in cut.named_parameters()}, sizes)
        if n == 0:
            achieved.append(plan.achieved.width)
    return CostTable(
        blocks=tuple(num_blocks - n for n in num_removed),
        widths=tuple(widths),
        sides_px=tuple(sides),
        depth=tuple((num_blocks - n) / num_blocks for n in num_removed),
        width=tuple(achieved),
        resolution=tuple(side / sides[0] for side in sides),
        costs={"macs": _cube(macs), "params": _cube(params)},
    )


def _macs(cut: nn.Module, own: Work, uses: Sequence[Work]) -> list[int]:
    """Return a cut's MACs at each side, given its own work at the last side (or the uncut model's) and the uncut one's at all."""
    weights = {name: m.weight.numel() for name, m in cut.named_modules() if isinstance(m, COUNTED)}
    layers = _grown({name: weights[name] * n for name, n in own.positions.items() if name in weights}, [use.positions for use in uses])
    return [a + b for a, b in zip(layers, _grown(own.products, [use.products for use in uses]), strict=True)]


def _grown(last: Mapping[str, int], bases: Sequence[Mapping[str, int]]) -> list[int]:
    """Return the sum at each side of numbers known at the last one that grow with the side as the uncut model's do."""
    return [sum(count * base[key] // bases[-1][key] for key, count in last.items()) for base in bases]


def with_measured(
    table: CostTable, surgeon: Surgeon, block_order: Sequence[str], metric: Metric, cost: Cost, advance: Callable[[float, str], None]
) -> CostTable:
    """Return the table with one metric more, measured on a sample of real cuts and interpolated between them.

    Args:
        table: What `count_costs` gave.
        surgeon: Cuts the sample.
        block_order: As for `count_costs`.
        metric: The metric's name.
        cost: Measures one cut model at a side.
        advance: Told the share that is done.
    """
    axes = (table.blocks, table.widths, table.sides_px)
    chosen = [_spread(len(levels), num) for levels, num in zip(axes, SAMPLED_LEVELS, strict=True)]
    sample = np.empty([len(c) for c in chosen])
    for at, (a, b, c) in enumerate(itertools.product(*(range(len(c)) for c in chosen))):
        i, j, k = chosen[0][a], chosen[1][b], chosen[2][c]
        plan = surgeon.plan(
            removed_blocks=tuple(block_order[: table.blocks[0] - table.blocks[i]]), width=table.widths[j], importance="first"
        )
        sample[a, b, c] = cost(surgeon.cut(plan), table.sides_px[k])
        advance((at + 1) / sample.size, f"{metric} of {sample.size} cuts")
    ratios = (table.depth, table.width, table.resolution)
    # A grid needs rising coordinates; levels fall. An axis with one level is left out of the interpolation.
    varying = [n for n in range(3) if len(chosen[n]) > 1]
    grid = [np.array([ratios[n][i] for i in chosen[n]])[::-1] for n in varying]
    values = sample[::-1, ::-1, ::-1].squeeze(tuple(n for n in range(3) if n not in varying))
    points = np.stack(np.meshgrid(*(np.array(ratios[n]) for n in varying), indexing="ij"), -1) if varying else np.empty((1, 0))
    filled = RegularGridInterpolator(grid, np.log(values))(points) if varying else np.log(values)
    cube = np.exp(filled).reshape([len(levels) for levels in axes])
    return dataclasses.replace(table, costs={**table.costs, metric: _cube(cube)})


def latency_cost(in_channels: int, batch: int, device: torch.device, backend: str, seconds: float) -> Cost:
    """Return the cost that times a cut model, in milliseconds per batch."""

    def cost(model: nn.Module, side_px: int) -> float:
        shape = (in_channels, side_px, side_px)
        return measure_latency(model, shape, batch=batch, device=device, backend=backend, seconds=seconds).median_ms

    return cost


def _spread(num_levels: int, num: int) -> list[int]:
    return sorted({round(x) for x in np.linspace(0, num_levels - 1, min(num, num_levels))})


def _cube(values: np.ndarray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(row) for row in plane) for plane in values.tolist())
