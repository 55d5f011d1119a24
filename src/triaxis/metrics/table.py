"""The cost of every cut on the lattice: counted on really cut copies, or measured on a sample of them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from torch import nn

from triaxis.metrics.gauge import Gauge
from triaxis.metrics.macs import COUNTED, Work, work
from triaxis.surgery.criteria import Criterion
from triaxis.surgery.criteria.control import First
from triaxis.surgery.planning import Scope
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import CostTable

log = logging.getLogger(__name__)

FIRST = First()
"""Where every group keeps the same share, it does not matter for the cost which channels stay."""

SAMPLED_LEVELS = (3, 5, 4)
"""Depth, width and resolution levels on which a measured metric is sampled."""


def count_costs(
    surgeon: Surgeon,
    block_order: Sequence[str],
    *,
    min_depth: float,
    in_channels: int,
    importance: str | Criterion = FIRST,
    scope: Scope = "uniform",
    seed: int = 0,
) -> CostTable:
    """Return MACs and parameters of every cut, each counted on a really cut copy.

    The side changes only how often each weight is used, so one pass of the uncut model per side serves all cuts. Matrix
    products outside layers (attention) are counted on each cut copy at one side, and grow with the side as the uncut
    model's do: a factor of theirs depends on the channels or on the side, never on both.

    Args:
        surgeon: Knows the base model and its lattice.
        block_order: Removable blocks in the order in which they go.
        min_depth: Smallest keep ratio of depth on the lattice.
        in_channels: Channels of the input image.
        importance: Decides how many channels each group keeps where the scope is global; of no effect where it is uniform.
        scope: As for `Surgeon.plan`.
        seed: Likewise.
    """
    num_blocks = surgeon.identity().num_blocks
    num_removed = [n for n in range(len(block_order) + 1) if n == 0 or (num_blocks - n) / num_blocks >= min_depth - 1e-9]
    widths, sides = surgeon.width_levels(), surgeon.sides_px()
    bases = [surgeon.cut(surgeon.plan(side_px=side)) for side in sides]
    uses = [work(base, (in_channels, side, side)) for base, side in zip(bases, sides, strict=True)]
    sizes = [{name: p.numel() for name, p in base.named_parameters()} for base in bases]
    macs = np.empty((len(num_removed), len(widths), len(sides)))
    params = np.empty_like(macs)
    achieved = []
    for (i, n), (j, width) in itertools.product(enumerate(num_removed), enumerate(widths)):
        plan = surgeon.plan(
            removed_blocks=tuple(block_order[:n]), width=width, side_px=sides[-1], importance=importance, scope=scope, seed=seed
        )
        cut = surgeon.cut(plan)
        macs[i, j] = _macs(cut, uses, (in_channels, sides[-1], sides[-1]))
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


def _macs(cut: nn.Module, uses: Sequence[Work], last_shape: tuple[int, int, int]) -> list[int]:
    """Return a cut's MACs at each side, given the uncut model's work there; `last_shape` is the input's at the last side."""
    own = work(cut, last_shape) if uses[-1].products else uses[-1]
    weights = {name: m.weight.numel() for name, m in cut.named_modules() if isinstance(m, COUNTED)}
    layers = _grown({name: weights[name] * n for name, n in own.positions.items() if name in weights}, [use.positions for use in uses])
    return [a + b for a, b in zip(layers, _grown(own.products, [use.products for use in uses]), strict=True)]


def _grown(last: Mapping[str, int], bases: Sequence[Mapping[str, int]]) -> list[int]:
    """Return the sum at each side of numbers known at the last one that grow with the side as the uncut model's do."""
    return [sum(count * base[key] // bases[-1][key] for key, count in last.items()) for base in bases]


def with_measured(
    table: CostTable,
    surgeon: Surgeon,
    block_order: Sequence[str],
    gauge: Gauge,
    *,
    in_channels: int,
    seconds: float,
    advance: Callable[[float, str], None],
    importance: str | Criterion = FIRST,
    scope: Scope = "uniform",
    seed: int = 0,
) -> CostTable:
    """Return the table with one metric more, measured on a sample of real cuts and interpolated between them.

    Each sample is measured beside the base model, in turns; its cost is that ratio times the base model's lowest cost of all
    turns, which is the one that other work on the machine disturbed least.

    Args:
        table: What `count_costs` gave.
        surgeon: Cuts the sample.
        block_order: As for `count_costs`.
        gauge: Measures a cut in the metric.
        in_channels: Channels of the input image.
        seconds: Time to spend on each sample.
        advance: Told the share that is done.
        importance: As for `count_costs`.
        scope: As for `count_costs`.
        seed: Likewise.
    """
    axes = (table.blocks, table.widths, table.sides_px)
    chosen = [_spread(len(levels), num) for levels, num in zip(axes, SAMPLED_LEVELS, strict=True)]
    ratios = np.empty([len(c) for c in chosen])
    bases, spreads = [], []
    for at, (a, b, c) in enumerate(itertools.product(*(range(len(c)) for c in chosen))):
        i, j, k = chosen[0][a], chosen[1][b], chosen[2][c]
        removed, side = tuple(block_order[: table.blocks[0] - table.blocks[i]]), table.sides_px[k]
        plan = surgeon.plan(removed_blocks=removed, width=table.widths[j], side_px=side, importance=importance, scope=scope, seed=seed)
        found = gauge.measure(surgeon.cut(plan), (in_channels, side, side), seconds=seconds)
        # The base model itself costs itself, whatever the clock says.
        ratios[a, b, c] = found.ratio if i or j or k else 1.0
        bases.append(found.base)
        spreads.append((found.high - found.low) / 2 / found.ratio)
        advance((at + 1) / ratios.size, f"{gauge.metric.key} of {ratios.size} cuts")
    costs, spread = {**table.costs, gauge.metric.key: _interpolated(table, chosen, min(bases) * ratios)}, {**table.spread}
    if not gauge.metric.is_counted:
        spread[gauge.metric.key] = float(np.median(spreads))
    return dataclasses.replace(table, costs=costs, spread=spread)


def _interpolated(table: CostTable, chosen: Sequence[Sequence[int]], sample: np.ndarray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Return the costs of all cuts from those at the chosen levels, linear in the log of the cost along each axis."""
    ratios = (table.depth, table.width, table.resolution)
    # A grid needs rising coordinates; levels fall. An axis with one level is left out of the interpolation.
    varying = [n for n in range(3) if len(chosen[n]) > 1]
    grid = [np.array([ratios[n][i] for i in chosen[n]])[::-1] for n in varying]
    values = sample[::-1, ::-1, ::-1].squeeze(tuple(n for n in range(3) if n not in varying))
    points = np.stack(np.meshgrid(*(np.array(ratios[n]) for n in varying), indexing="ij"), -1) if varying else np.empty((1, 0))
    filled = RegularGridInterpolator(grid, np.log(values))(points) if varying else np.log(values)
    return _cube(np.exp(filled).reshape([len(levels) for levels in ratios]))


def _spread(num_levels: int, num: int) -> list[int]:
    return sorted({round(x) for x in np.linspace(0, num_levels - 1, min(num, num_levels))})


def _cube(values: np.ndarray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(row) for row in plane) for plane in values.tolist())
