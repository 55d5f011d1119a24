"""The cost of every cut on the lattice: counted on really cut copies, or measured on a sample of them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from triaxis.errors import RefusedModelError
from triaxis.maths.lattice import Lattice, Levels
from triaxis.maths.surface import relative_errors, surface
from triaxis.metrics.gauge import Gauge, Measurement
from triaxis.metrics.macs import COUNTED, Work, work
from triaxis.surgery.criteria import Criterion
from triaxis.surgery.criteria.control import First
from triaxis.surgery.find.planning import Scope
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import CostTable

log = logging.getLogger(__name__)

FIRST = First()
"""Where every group keeps the same share, it does not matter for the cost which channels stay."""

SAMPLED_LEVELS = (3, 5, 4)
"""Depth, width and resolution levels on which a measured metric is sampled."""

SLOW_LEVELS = (2, 4, 3)
"""Those of a metric whose readings are slow."""

HELD_OUT = 0.15
"""Cuts between those levels that are measured to know the error of the prediction, as a share of the sampled cuts."""


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
        seed: Likewise.
    """
    num_blocks = surgeon.identity().num_blocks
    num_removed = [n for n in range(len(block_order) + 1) if n == 0 or (num_blocks - n) / num_blocks >= min_depth - 1e-9]
    widths, sides = surgeon.width_levels(), surgeon.sides_px()
    bases = [surgeon.cut(surgeon.plan(side_px=side)) for side in sides]
    uses = [work(base, (in_channels, side, side)) for base, side in zip(bases, sides, strict=True)]
    sizes = [{name: p.numel() for name, p in base.named_parameters()} for base in bases]
    last_shape = (in_channels, sides[-1], sides[-1])
    narrow = work(surgeon.cut(surgeon.plan(width=widths[-1], side_px=sides[-1], importance=FIRST)), last_shape)
    # A layer over tokens has channels as its rows, and heads are rows of attention: then no pass of the uncut model tells a cut's.
    must_run = bool(uses[-1].products) or narrow.positions != uses[-1].positions
    macs = np.empty((len(num_removed), len(widths), len(sides)))
    params = np.empty_like(macs)
    achieved = []
    for (i, n), (j, width) in itertools.product(enumerate(num_removed), enumerate(widths)):
        plan = surgeon.plan(
            removed_blocks=tuple(block_order[:n]), width=width, side_px=sides[-1], importance=importance, scope=scope, seed=seed
        )
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
    turns, which is the one that other work on the machine disturbed least. More cuts, between the levels of the sample, are
    predicted first and then measured: their errors stand in the table, and they improve it afterwards.

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
        seed: Likewise; also draws the cuts that are held out.

    Raises:
        RefusedModelError: The runtime refuses the base model, or nearly all cuts.
        DeviceError: A device does not answer.
    """
    lattice, key = Lattice(table), gauge.metric.key
    grid = [_spread(size, num) for size, num in zip(lattice.shape, SLOW_LEVELS if gauge.is_slow else SAMPLED_LEVELS, strict=True)]
    sample = list(lattice.product(grid))
    held_out = _off_grid(lattice, sample, seed)
    found: dict[Levels, Measurement] = {}
    if not gauge.is_slow:
        gauge.base_reading  # noqa: B018 - prepared before the clock runs
    advance(0.0, f"{key} of {len(sample) + len(held_out)} cuts")
    for at, levels in enumerate([*sample, *held_out]):
        blocks, width, side = lattice.place(levels)
        removed = tuple(block_order[: table.blocks[0] - blocks])
        plan = surgeon.plan(removed_blocks=removed, width=width, side_px=side, importance=importance, scope=scope, seed=seed)
        try:
            found[levels] = gauge.sample(surgeon.cut(plan), (in_channels, side, side), seconds=seconds)
        except RefusedModelError as error:
            if at == 0 or at - len(found) > len(sample) // 2:
                raise
            log.warning("%s The others go on.", error)
        advance((at + 1) / (len(sample) + len(held_out)), f"{key} of {len(sample) + len(held_out)} cuts")
    # The base model itself costs itself, whatever the clock says.
    ratios = {levels: measured.ratio if any(levels) else 1.0 for levels, measured in found.items()}
    kept, tested = ({n: r for n, r in ratios.items() if (n in set(held_out)) == is_out} for is_out in (False, True))
    errors = {**table.errors}
    if tested:
        errors[key] = relative_errors(surface(table, grid, kept), tested)
        log.info(
            "%s of %d cuts that were not in its sample: median error %.1f %%, 90th percentile %.1f %%",
            key,
            len(tested),
            *(100 * error for error in errors[key]),
        )
    cube = min(measured.base for measured in found.values()) * surface(table, grid, ratios)
    spread = {**table.spread}
    if not gauge.metric.is_counted:
        spread[key] = float(np.median([(m.high - m.low) / 2 / m.ratio for m in found.values()]))
    return dataclasses.replace(table, costs={**table.costs, key: _cube(cube)}, spread=spread, errors=errors)


def _off_grid(lattice: Lattice, sample: Sequence[Levels], seed: int) -> list[Levels]:
    """Return cuts that are not in the sample, drawn by chance; fewer where hardly any are left."""
    others = sorted(set(lattice) - set(sample))
    num = min(len(others), max(1, round(HELD_OUT * len(sample))))
    order = np.random.default_rng(seed).permutation(len(others))[:num]
    return [others[index] for index in order]


def _spread(num_levels: int, num: int) -> list[int]:
    return sorted({round(x) for x in np.linspace(0, num_levels - 1, min(num, num_levels))})


def _cube(values: np.ndarray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(row) for row in plane) for plane in values.tolist())
