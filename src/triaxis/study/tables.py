"""Two-axis tables of accuracies with the third axis fixed, and what rank 1 says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triaxis.maths.polynomial import Floats
from triaxis.maths.rank import RankOne, from_axes, from_cross, nearest_rank_one, row_ratios, spread
from triaxis.values import AXES, Axis, KeepRatios, Point

# The identity of the supplement that is `from_cross` on a table whose fixed axis is this one.
EQUATIONS: dict[Axis, str] = {"depth": "eq. 3", "width": "eq. 4", "resolution": "eq. 5"}


@dataclass(frozen=True)
class SubTable:
    """Accuracies over two axes, shape (rows, columns), in [0, 1]; `reference` is a row and a column of it."""

    name: str
    row_axis: Axis
    column_axis: Axis
    fixed_axis: Axis
    fixed: float
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    accuracies: Floats
    reference: tuple[int, int]


@dataclass(frozen=True)
class Analysis:
    """A table beside what rank 1 says of it: equal ratios, the nearest rank-1 table, and the cross of eq. 3, 4 or 5."""

    table: SubTable
    ratios: Floats
    spreads: Floats
    nearest: RankOne
    predicted: Floats

    @property
    def errors(self) -> Floats:
        """Measured minus predicted, without the reference row and column, which are exact; shape (m,)."""
        row, column = self.table.reference
        left = self.table.accuracies - self.predicted
        return np.delete(np.delete(left, row, 0), column, 1).reshape(-1)


def analyse(table: SubTable) -> Analysis:
    """Compare a table with rank 1."""
    row, column = table.reference
    ratios = row_ratios(table.accuracies, row)
    return Analysis(table, ratios, spread(ratios), nearest_rank_one(table.accuracies), from_cross(table.accuracies, row, column))


@dataclass(frozen=True)
class CubeCheck:
    """Eq. 6 on single cells: keep ratios, shape (n, 3), measured and predicted accuracies, shape (n,)."""

    reference: KeepRatios
    ratios: Floats
    measured: Floats
    predicted: Floats

    @property
    def errors(self) -> Floats:
        """Measured minus predicted, shape (n,)."""
        return self.measured - self.predicted


def check_cube(points: Sequence[Point], reference: KeepRatios) -> CubeCheck:
    """Predict every point that differs from the reference on two axes or more from the slices through it (eq. 6).

    Repeats on the slices are averaged. Points whose slices were not measured are left out.
    """
    centre = reference.as_tuple()
    places: dict[tuple[float, ...], list[float]] = {}
    for point in points:
        places.setdefault(point.ratios.as_tuple(), []).append(point.accuracy)
    means = {place: float(np.mean(found)) for place, found in places.items()}
    rows, measured, predicted = [], [], []
    for point in points:
        x = point.ratios.as_tuple()
        slices = [tuple(x[b] if b == a else centre[b] for b in range(3)) for a in range(3)]
        if sum(v != c for v, c in zip(x, centre, strict=True)) > 1 and all(s in means for s in (*slices, centre)):
            depth, width, resolution = (np.array(means[s]) for s in slices)
            rows.append(x)
            measured.append(point.accuracy)
            predicted.append(float(from_axes(depth, width, resolution, means[centre])))
    return CubeCheck(reference, np.array(rows).reshape(-1, 3), np.array(measured), np.array(predicted))


def planes(points: Sequence[Point], reference: KeepRatios) -> tuple[SubTable, ...]:
    """Cut a measured grid into its three tables through a reference point: (a) depth fixed, (b) width, (c) resolution.

    Repeats are averaged. A table with a missing cell, or with fewer than two rows or columns, is left out.
    """
    return tuple(
        table
        for name, (fixed, row, column) in zip("abc", ((0, 1, 2), (1, 0, 2), (2, 0, 1)), strict=True)
        if (table := _plane(points, reference, name, fixed, row, column)) is not None
    )


def _plane(points: Sequence[Point], reference: KeepRatios, name: str, fixed: int, row: int, column: int) -> SubTable | None:
    centre = reference.as_tuple()
    inside = [(p.ratios.as_tuple(), p.accuracy) for p in points if p.ratios.as_tuple()[fixed] == centre[fixed]]
    rows, columns = (sorted({x[a] for x, _ in inside}) for a in (row, column))
    cells = [[[accuracy for x, accuracy in inside if (x[row], x[column]) == (i, j)] for j in columns] for i in rows]
    is_full = all(cell for line in cells for cell in line)
    if not is_full or min(len(rows), len(columns)) < 2 or centre[row] not in rows or centre[column] not in columns:
        return None
    return SubTable(
        name=name,
        row_axis=AXES[row],
        column_axis=AXES[column],
        fixed_axis=AXES[fixed],
        fixed=centre[fixed],
        rows=tuple(rows),
        columns=tuple(columns),
        accuracies=np.array([[np.mean(cell) for cell in line] for line in cells]),
        reference=(rows.index(centre[row]), columns.index(centre[column])),
    )
