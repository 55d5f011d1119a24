"""Table 1 of the paper's supplement: 150 accuracies of ResNets and DenseNets on CIFAR-10, with what rank 1 says about them.

Source: Wang et al., ICML 2021, supplement, Table 1; ``table1.csv`` beside this file holds it digit for digit, with sub-table
(a)'s depth corrected (docs/predictor.md).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np

from triaxis.study.tables import Analysis, CubeCheck, SubTable, analyse, check_cube
from triaxis.values import AXES, Axis, KeepRatios, Point

Family = Literal["resnet", "densenet"]
FAMILIES: tuple[Family, ...] = ("resnet", "densenet")
FAMILY_NAMES: dict[Family, str] = {"resnet": "ResNet", "densenet": "DenseNet"}
# ResNet-32 and DenseNet-40, the base models of the paper: (d2, w2, r2) of its identities.
REFERENCES: dict[Family, KeepRatios] = {"resnet": KeepRatios(depth=0.55), "densenet": KeepRatios(depth=0.6)}
# Row axis, column axis and fixed axis of each sub-table, so that the sub-title's ratios are between rows.
_SHAPES: dict[str, tuple[Axis, Axis, Axis]] = {
    "a": ("width", "resolution", "depth"),
    "b": ("depth", "resolution", "width"),
    "c": ("depth", "width", "resolution"),
}


@dataclass(frozen=True)
class Cell:
    """One printed accuracy."""

    family: Family
    subtable: str
    point: Point


@dataclass(frozen=True)
class FamilyStudy:
    """One family's three sub-tables, eq. 6 from the paper's base model, and eq. 6 from the largest network."""

    family: Family
    tables: tuple[Analysis, ...]
    from_base: CubeCheck
    from_largest: CubeCheck


def read_cells() -> tuple[Cell, ...]:
    """Return all 150 cells in printed order, accuracies in [0, 1]."""
    text = resources.files("triaxis").joinpath("study/table1.csv").read_text(encoding="utf-8")
    return tuple(
        Cell(
            family=row["family"],  # type: ignore[arg-type]
            subtable=row["subtable"],
            point=Point(
                ratios=KeepRatios(**{axis: float(row[axis]) for axis in AXES}),
                accuracy=round(float(row["accuracy_percent"]) / 100, 6),
            ),
        )
        for row in csv.DictReader(text.splitlines())
    )


def points_of(family: Family) -> list[Point]:
    """Return one family's 75 points; places printed in two sub-tables are there twice."""
    return [cell.point for cell in read_cells() if cell.family == family]


def sub_table(cells: Sequence[Cell], family: Family, name: str) -> SubTable:
    """Return sub-table (a), (b) or (c) of a family."""
    row_axis, column_axis, fixed_axis = _SHAPES[name]
    found = {
        (getattr(c.point.ratios, row_axis), getattr(c.point.ratios, column_axis)): c.point.accuracy
        for c in cells
        if (c.family, c.subtable) == (family, name)
    }
    rows, columns = (sorted({key[n] for key in found}) for n in (0, 1))
    base = REFERENCES[family]
    return SubTable(
        name=name,
        row_axis=row_axis,
        column_axis=column_axis,
        fixed_axis=fixed_axis,
        fixed=getattr(base, fixed_axis),
        rows=tuple(rows),
        columns=tuple(columns),
        accuracies=np.array([[found[row, column] for column in columns] for row in rows]),
        reference=(rows.index(getattr(base, row_axis)), columns.index(getattr(base, column_axis))),
    )


def study_table1() -> tuple[FamilyStudy, ...]:
    """Analyse Table 1: what the sub-titles say is equal, the share of rank 1, and eq. 3 to 6 against the printed values."""
    cells = read_cells()
    return tuple(
        FamilyStudy(
            family=family,
            tables=tuple(analyse(sub_table(cells, family, name)) for name in "abc"),
            from_base=check_cube(points_of(family), REFERENCES[family]),
            from_largest=check_cube(points_of(family), KeepRatios()),
        )
        for family in FAMILIES
    )
