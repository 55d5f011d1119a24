"""Measured points as arrays, and whether they determine a predictor at all.

Notation:
    N   points;  n  distinct places;  repeats of one place are averaged, their weights added
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from triaxis.errors import FitError
from triaxis.maths.polynomial import Floats
from triaxis.values import AXES, Point


class Data(NamedTuple):
    """All points, and the distinct places with averaged accuracies; `place`, shape (N,), maps the first to the second."""

    accuracies: Floats
    weights: Floats
    place: Floats
    x: Floats
    y: Floats
    weight: Floats

    @property
    def levels(self) -> tuple[int, int, int]:
        """Distinct keep ratios on each axis; 1 on a closed one."""
        depth, width, resolution = (len(np.unique(self.x[:, a])) for a in range(3))
        return depth, width, resolution

    @property
    def domain(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest keep ratio of each axis."""
        return {axis: (float(self.x[:, a].min()), float(self.x[:, a].max())) for a, axis in enumerate(AXES)}

    @property
    def num_repeats(self) -> int:
        """Points beyond the distinct ones."""
        return len(self.accuracies) - len(self.y)

    @property
    def repeat_squares(self) -> float:
        """Weighted sum of squares of repeats about their means."""
        return float(np.sum(self.weights * (self.accuracies - self.y[self.place]) ** 2))

    def shown_levels(self) -> str:
        """Return the distinct keep ratios of each axis, for messages."""
        return ", ".join(f"{axis} {levels}" for axis, levels in zip(AXES, self.levels, strict=True))


def gather(points: Sequence[Point]) -> Data:
    """Turn points into arrays; weights are scaled to mean 1.

    Raises:
        FitError: There are no points, or they cut no axis.
    """
    if not points:
        raise FitError("A fit needs measured points, got none: collect trials first.")
    x = np.array([p.ratios.as_tuple() for p in points])
    y = np.array([p.accuracy for p in points])
    weight = np.array([p.weight for p in points])
    weight = weight / weight.mean()
    distinct, place = np.unique(x.round(9), axis=0, return_inverse=True)
    place = place.reshape(-1)
    total = np.bincount(place, weight)
    data = Data(y, weight, place, distinct, np.bincount(place, weight * y) / total, total)
    if max(data.levels) == 1:
        raise FitError(
            f"A fit needs points at different keep ratios, got {len(points)} at one place: "
            "add trials on the depth, width or resolution axis."
        )
    return data


def require_separable(data: Data) -> None:
    """Check that the effect of each open axis can be told from the others'.

    Raises:
        FitError: Too few distinct points, or two axes always change together.
    """
    is_open = [levels > 1 for levels in data.levels]
    needed = sum(is_open) + 2
    if len(data.y) < needed:
        raise FitError(
            f"A predictor of {sum(is_open)} axes needs {needed} distinct points or more, got {len(data.y)} "
            f"(distinct keep ratios: {data.shown_levels()}): add trials on the axis with the fewest."
        )
    logs = np.log(data.x[:, is_open])
    if np.linalg.matrix_rank(logs - logs.mean(axis=0), tol=1e-6) < sum(is_open):
        raise FitError(f"The points must tell the axes apart: {confounded(data)}.")


def confounded(data: Data) -> str:
    """Say which two axes always change together, if that is what is wrong."""
    for a, b in ((0, 1), (0, 2), (1, 2)):
        pairs = len(np.unique(data.x[:, [a, b]], axis=0))
        if 1 < pairs == data.levels[a] == data.levels[b]:
            return f"{AXES[a]} and {AXES[b]} always change together, so add trials that cut only the {AXES[a]} axis"
    return "add trials that cut one axis only, and for a rank above 1 trials that cut all three"
