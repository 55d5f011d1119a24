"""What a grid of trained networks says about rank 1, beside the paper's printed table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triaxis.errors import FitError
from triaxis.maths.rank import nearest_rank_one
from triaxis.study.grid_config import GridConfig, Place
from triaxis.study.grid_networks import NetworkResult
from triaxis.study.rank import RankStudy, study_rank
from triaxis.study.table1 import Family, FamilyStudy, read_cells
from triaxis.study.tables import analyse, check_cube, planes
from triaxis.values import KeepRatios, Point

# Blocks in each stage where Table 1's depth is 1: ResNet-56 and DenseNet-64; layers for each block, and those beside blocks.
_PRINTED: dict[Family, tuple[int, int, int]] = {"resnet": (9, 6, 2), "densenet": (20, 3, 4)}
_PRINTED_PX = 32


@dataclass(frozen=True)
class PrintedCell:
    """One network that the paper's table has too; accuracies in [0, 1], means over repeats."""

    place: Place
    measured: float
    printed: float

    @property
    def difference(self) -> float:
        """Measured minus printed."""
        return self.measured - self.printed


@dataclass(frozen=True)
class PlaneResidual:
    """What rank 1 leaves of one sub-table's common cells, root mean square in accuracy: here, and in the printed table."""

    name: str
    num_rows: int
    num_columns: int
    measured: float
    printed: float


@dataclass(frozen=True)
class TableComparison:
    """The grid beside Table 1, cell by cell, and the rank-1 residual of both on the same cells."""

    cells: tuple[PrintedCell, ...]
    residuals: tuple[PlaneResidual, ...]

    @property
    def mean_difference(self) -> float:
        """Mean of measured minus printed."""
        return float(np.mean([cell.difference for cell in self.cells]))

    @property
    def spread(self) -> float:
        """Standard deviation of the differences: what another recipe changes in the table's shape, not in its level."""
        return float(np.std([cell.difference for cell in self.cells]))


@dataclass(frozen=True)
class Noise:
    """Standard deviations of one accuracy: from the finite test split (mean over networks), and between seeds if several were trained."""

    test_split: float
    seeds: float | None


@dataclass(frozen=True)
class GridStudy:
    """The three sub-tables of a grid, eq. 3 to 6 on them, the test of rank 1 and the comparison with Table 1."""

    family: FamilyStudy
    rank: RankStudy
    printed: TableComparison | None
    noise: Noise


def study_grid(config: GridConfig, results: Sequence[NetworkResult]) -> GridStudy | None:
    """Analyse the finished networks of a grid; None where there are none.

    Sub-tables are cut through the grid's reference network; one with a missing cell is left out.
    """
    finished = [result for result in results if result.state == "done"]
    if not finished:
        return None
    points = [Point(ratios=config.ratios(place_of(result)), accuracy=result.accuracy or 0.0) for result in finished]
    centre = config.ratios(config.centre)
    tables = tuple(analyse(table) for table in planes(points, centre))
    return GridStudy(
        family=FamilyStudy(config.family, tables, check_cube(points, centre), check_cube(points, KeepRatios())),
        rank=_rank(points),
        printed=compare(config, finished),
        noise=noise_of(finished),
    )


def place_of(result: NetworkResult) -> Place:
    """Return a network's layers, width and side."""
    return result.spec.layers, result.spec.width, result.spec.side_px


def _rank(points: Sequence[Point]) -> RankStudy:
    try:
        return study_rank(points)
    except FitError as error:
        return RankStudy(tuple(points), None, (), f"Rank 1 cannot be tested on these networks. {error}")


def printed_places(family: Family) -> dict[Place, float]:
    """Return Table 1 by layers, width and side, a place that is printed twice as its mean.

    The printed ratios are cut off after two digits (0.87 is 28 of 32 px), so that whole blocks and pixels are the nearest ones.
    """
    blocks, layers_per_block, others = _PRINTED[family]
    found: dict[Place, list[float]] = {}
    for cell in read_cells():
        if cell.family == family:
            depth, width, resolution = cell.point.ratios.as_tuple()
            place = (round(depth * blocks) * layers_per_block + others, width, round(resolution * _PRINTED_PX))
            found.setdefault(place, []).append(cell.point.accuracy)
    return {place: float(np.mean(accuracies)) for place, accuracies in found.items()}


def compare(config: GridConfig, finished: Sequence[NetworkResult]) -> TableComparison | None:
    """Set the networks that Table 1 has too beside it; None where there are none."""
    measured: dict[Place, list[float]] = {}
    for result in finished:
        measured.setdefault(place_of(result), []).append(result.accuracy or 0.0)
    printed = printed_places(config.family)
    common = sorted(place for place in measured if place in printed)
    if not common:
        return None
    cells = tuple(PrintedCell(place, float(np.mean(measured[place])), printed[place]) for place in common)
    return TableComparison(cells, _residuals(config, cells))


def _residuals(config: GridConfig, cells: Sequence[PrintedCell]) -> tuple[PlaneResidual, ...]:
    places = [cell.place for cell in cells]
    centre = next((place for place in (config.centre, config.largest) if place in places), None)
    if centre is None:
        return ()
    ratios = [config.ratios(place) for place in places]
    both = [[Point(ratios=x, accuracy=getattr(c, side)) for x, c in zip(ratios, cells, strict=True)] for side in ("measured", "printed")]
    ours, theirs = ({t.name: t for t in planes(points, config.ratios(centre))} for points in both)
    return tuple(
        PlaneResidual(name, len(table.rows), len(table.columns), _rms(table.accuracies), _rms(theirs[name].accuracies))
        for name, table in ours.items()
    )


def _rms(table: np.ndarray) -> float:
    return float(np.sqrt(np.mean(nearest_rank_one(table).residual ** 2)))


def noise_of(finished: Sequence[NetworkResult]) -> Noise:
    """Return how far one accuracy can be off by chance: binomial on the test split, and pooled between the seeds of a place."""
    errors = [np.sqrt((r.accuracy or 0.0) * (1 - (r.accuracy or 0.0)) / max(r.num_test, 1)) for r in finished]
    groups: dict[Place, list[float]] = {}
    for result in finished:
        groups.setdefault(place_of(result), []).append(result.accuracy or 0.0)
    squares = sum(float(np.var(group)) * len(group) for group in groups.values())
    freedom = sum(len(group) - 1 for group in groups.values())
    return Noise(test_split=float(np.mean(errors)), seeds=float(np.sqrt(squares / freedom)) if freedom else None)
