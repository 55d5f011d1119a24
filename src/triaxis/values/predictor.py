"""The fitted accuracy predictor, and how well it describes its points."""

from __future__ import annotations

import math
from dataclasses import dataclass

from triaxis.values.base import AXES, Value, require


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPredictor(Value):
    """F(depth, width, resolution), with all that a prediction and its interval need.

    `coefficients` are flat; `kind`, `degrees` (one per axis; 0 for a closed axis) and `rank` give them their meaning, see
    ``triaxis.maths.forms``. `covariance` is theirs, shape (p, p), in accuracy units; `noise` is the standard deviation of
    one measured accuracy of weight 1; `quantile` is Student's t for a 90 % interval. `domain` holds the smallest and
    largest measured keep ratio of each axis.
    """

    kind: str
    degree: int
    rank: int
    degrees: tuple[int, int, int]
    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise: float
    quantile: float
    domain: dict[str, tuple[float, float]]
    num_points: int

    def __post_init__(self) -> None:
        num = len(self.coefficients)
        require(all(math.isfinite(c) for c in self.coefficients), "A predictor's coefficients must be finite: fit it again.")
        require(
            len(self.covariance) == num and all(len(row) == num for row in self.covariance),
            f"A predictor's covariance must have shape ({num}, {num}).",
        )
        require(set(self.domain) == set(AXES), f"A predictor's domain must name {AXES}, got {tuple(self.domain)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport(Value):
    """How well the predictor describes the points it was fitted to; all errors are in accuracy, measured minus predicted.

    `residuals` follow the order of the points. `leave_one_out_errors` hold one error for each *distinct* point, predicted
    without it (repeats are averaged first). `tried` maps each candidate, such as ``degree 2``, to its leave-one-out mean
    absolute error; the smallest was chosen.
    """

    kind: str
    degree: int
    rank: int
    num_points: int
    num_distinct: int
    residuals: tuple[float, ...]
    rmse: float
    leave_one_out_errors: tuple[float, ...]
    leave_one_out_mae: float
    condition_number: float
    tried: dict[str, float]
