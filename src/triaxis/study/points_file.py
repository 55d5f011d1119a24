"""Points from a CSV file: columns depth, width, resolution, accuracy and, if wanted, weight."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triaxis.errors import ConfigError, DataError
from triaxis.values import AXES, KeepRatios, Point


def read_points(path: Path) -> list[Point]:
    """Read measured points; repeats are allowed, other columns are ignored.

    Raises:
        DataError: The file, its columns or some of its rows are unusable; every bad row is named by its line.
    """
    points, bad = [], []
    for line, row in _rows(path, (*AXES, "accuracy")):
        try:
            accuracy, weight = _number(row, "accuracy"), _number(row, "weight") if (row.get("weight") or "").strip() else 1.0
            points.append(Point(ratios=_ratios(row), accuracy=accuracy, weight=weight))
        except ConfigError as error:
            bad.append(f"line {line}: {error}")
    return _all_good(path, points, bad)


def read_ratios(path: Path) -> list[KeepRatios]:
    """Read keep ratios to predict; the accuracy column is not needed.

    Raises:
        DataError: As `read_points`.
    """
    found, bad = [], []
    for line, row in _rows(path, AXES):
        try:
            found.append(_ratios(row))
        except ConfigError as error:
            bad.append(f"line {line}: {error}")
    return _all_good(path, found, bad)


def _all_good(path: Path, found: list[Any], bad: list[str]) -> list[Any]:
    if bad:
        raise DataError(f"Every row of {path} must be usable, got {len(bad)} bad: {' '.join(bad)}")
    if not found:
        raise DataError(f"{path} must have at least one row under its header, got none.")
    return found


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with its line number, names in lower case without spaces."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            if missing := [name for name in needed if name not in names]:
                raise DataError(f"{path} must have the columns {', '.join(needed)}, but lacks {', '.join(missing)}; it has {names}.")
            reader.fieldnames = names
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be a CSV file in UTF-8: {error}.") from None


def _number(row: dict[str, str], name: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be a number, got {row[name] or 'nothing'!r}.") from None


def _ratios(row: dict[str, str]) -> KeepRatios:
    return KeepRatios(**{axis: _number(row, axis) for axis in AXES})
