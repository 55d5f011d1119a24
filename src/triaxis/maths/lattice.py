"""The lattice: every cut that a cost table lists. What its levels (i, j, k) mean is known here and nowhere else.

Notation:
    levels   (i, j, k) index the blocks, widths and sides of a cost table; (0, 0, 0) is the base model
    row      the same cut as one number, the sides running fastest
    x        achieved keep ratios, one row for each cut                              shape (n, 3)
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from triaxis.errors import ConfigError
from triaxis.maths.polynomial import Floats
from triaxis.values import AXES, Axis, CostTable, KeepRatios

Levels = tuple[int, int, int]
BASE: Levels = (0, 0, 0)


class Place(NamedTuple):
    """What is asked of the surgeon at some levels: blocks to keep, target width keep ratio, side in pixels."""

    blocks: int
    width: float
    side_px: int


def on_axis(axis: Axis, level: int) -> Levels:
    """Return the levels of a cut of one axis alone."""
    depth, width, resolution = (level if a == axis else 0 for a in AXES)
    return depth, width, resolution


@dataclass(frozen=True)
class Lattice:
    """The cuts of a cost table."""

    table: CostTable

    @property
    def shape(self) -> Levels:
        """The number of levels on each axis."""
        return len(self.table.blocks), len(self.table.widths), len(self.table.sides_px)

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def __iter__(self) -> Iterator[Levels]:
        """Go through the levels of all cuts, in the order of rows."""
        return self.product([range(num) for num in self.shape])

    @staticmethod
    def product(grid: Sequence[Iterable[int]]) -> Iterator[Levels]:
        """Go through each combination of some levels of each axis."""
        return ((i, j, k) for i, j, k in itertools.product(*grid))

    def levels(self, row: int) -> Levels:
        """Return the levels of a row."""
        i, j, k = np.unravel_index(row, self.shape)
        return int(i), int(j), int(k)

    def row(self, levels: Levels) -> int:
        """Return the row of a cut."""
        return int(np.ravel_multi_index(levels, self.shape))

    def rows(self, cuts: Collection[Levels]) -> np.ndarray:
        """Return the rows of cuts, shape (n,)."""
        return np.ravel_multi_index(np.array(list(cuts), int).reshape(-1, 3).T, self.shape)

    @functools.cached_property
    def x(self) -> Floats:
        """The achieved keep ratios of all cuts, shape (n, 3), in the order of rows."""
        grids = np.meshgrid(self.table.depth, self.table.width, self.table.resolution, indexing="ij")
        return np.stack([grid.reshape(-1) for grid in grids], axis=1)

    def rows_above(self, min_ratios: KeepRatios) -> np.ndarray:
        """Return the rows whose keep ratios are all at least these."""
        return np.flatnonzero(np.all(self.x >= np.array(min_ratios.as_tuple()) - 1e-9, axis=1))

    def costs(self, metric: str) -> Floats:
        """Return the cost of all cuts, shape (n,), in the order of rows.

        Raises:
            ConfigError: The table has no such metric.
        """
        self.table.base_cost(metric)
        return np.array(self.table.costs[metric], float).reshape(-1)

    def shares(self, metric: str) -> Floats:
        """Return the cost of all cuts over the base model's; raises as `costs` does."""
        return self.costs(metric) / self.table.base_cost(metric)

    def cost(self, metric: str, levels: Levels) -> float:
        """Return the cost of one cut; raises as `costs` does."""
        self.table.base_cost(metric)
        i, j, k = levels
        return self.table.costs[metric][i][j][k]

    def ratios(self, levels: Levels) -> KeepRatios:
        """Return the keep ratios that a cut achieves."""
        i, j, k = levels
        return KeepRatios(depth=self.table.depth[i], width=self.table.width[j], resolution=self.table.resolution[k])

    def target(self, levels: Levels) -> KeepRatios:
        """Return what a trial asks for: depth and resolution as achieved, width before rounding."""
        i, j, k = levels
        return KeepRatios(depth=self.table.depth[i], width=self.table.widths[j], resolution=self.table.resolution[k])

    def place(self, levels: Levels) -> Place:
        """Return what is asked of the surgeon."""
        i, j, k = levels
        return Place(self.table.blocks[i], self.table.widths[j], self.table.sides_px[k])

    def at(self, place: Place) -> Levels:
        """Return the levels of a place.

        Raises:
            ConfigError: The lattice has no such place.
        """
        try:
            return self.table.blocks.index(place.blocks), self.table.widths.index(place.width), self.table.sides_px.index(place.side_px)
        except ValueError:
            raise ConfigError(f"A cut must be one of the table's, got {place}: the table is another run's.") from None

    def of_target(self, target: KeepRatios) -> Levels:
        """Return the levels nearest to what a trial asks for."""
        return self._nearest((self.table.depth, self.table.widths, self.table.resolution), target)

    def nearest(self, ratios: KeepRatios) -> Levels:
        """Return the levels whose achieved keep ratios are nearest."""
        return self._nearest((self.table.depth, self.table.width, self.table.resolution), ratios)

    @staticmethod
    def _nearest(axes: tuple[tuple[float, ...], ...], wanted: KeepRatios) -> Levels:
        pairs = zip(axes, wanted.as_tuple(), strict=True)
        i, j, k = (min(range(len(levels)), key=lambda n: abs(levels[n] - ratio)) for levels, ratio in pairs)
        return i, j, k
