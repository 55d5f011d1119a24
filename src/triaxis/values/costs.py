"""What every possible cut costs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from triaxis.errors import ConfigError
from triaxis.values.base import AXES, Value, require


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable(Value):
    """The cost of every cut on the lattice, counted or measured on real cuts.

    `blocks`, `widths` and `sides_px` are the lattice's levels, each in falling order with the base model first: blocks
    kept, target width keep ratios, and sides in pixels; `depth`, `width`, `resolution` are the achieved keep ratios of
    those levels. ``costs[metric][i][j][k]`` is the cost at levels (i, j, k), batch 1. `spread` is the relative
    uncertainty of a metric's measurements (none for a counted one); `errors` holds, of a metric that was measured on a
    sample of cuts, median and 90th percentile of the relative error on measured cuts that the others had to predict.
    """

    blocks: tuple[int, ...]
    widths: tuple[float, ...]
    sides_px: tuple[int, ...]
    depth: tuple[float, ...]
    width: tuple[float, ...]
    resolution: tuple[float, ...]
    costs: dict[str, tuple[tuple[tuple[float, ...], ...], ...]]
    spread: dict[str, float] = field(default_factory=dict)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.blocks), len(self.widths), len(self.sides_px))
        require(min(shape) > 0, f"A cost table must have a level on each axis, got {shape}.")
        require((len(self.depth), len(self.width), len(self.resolution)) == shape, "A cost table must have one keep ratio for each level.")
        for axis in AXES:
            levels = getattr(self, axis)
            falling = all(a > b for a, b in itertools.pairwise(levels))
            require(falling and levels[-1] > 0 and levels[0] <= 1, f"The {axis} levels must fall from 1 and be in (0, 1], got {levels}.")
        for metric, cube in self.costs.items():
            found = (len(cube), len(cube[0]), len(cube[0][0]))
            require(found == shape, f"The {metric} costs must have shape {shape}, got {found}.")

    def base_cost(self, metric: str) -> float:
        """Return the base model's cost.

        Raises:
            ConfigError: The table has no such metric.
        """
        if metric not in self.costs:
            raise ConfigError(f"The run has no {metric} costs, only {', '.join(self.costs)}: name the metric under `budget` in a new run.")
        return self.costs[metric][0][0][0]
