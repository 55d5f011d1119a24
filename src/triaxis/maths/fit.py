"""Fit the accuracy predictor F(depth, width, resolution) to a dozen measured points.

Notation:
    n   points; repeats of one place are averaged, their weights added, before the fit
    p   numbers that the data must determine: R (K_d + K_w + K_r + 1)
    K   degree, R rank, see forms.py

Source: Wang et al., ICML 2021, supplement, eq. 1 and 2. The choice of K by leave-one-out is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from triaxis.errors import FitError
from triaxis.maths.forms import ProductForm
from triaxis.maths.least_squares import Minimum, minimise
from triaxis.maths.polynomial import Floats
from triaxis.maths.predict import Prediction, gradient, predict
from triaxis.values import AXES, AccuracyPredictor, FitReport, Point

__all__ = ["KINDS", "Prediction", "fit", "gradient", "predict"]

KINDS = ("auto", "polynomial")
MAX_DEGREE = 3


class Data(NamedTuple):
    """Points as arrays: all of them, and the distinct places with averaged accuracies. `place` maps the first to the second."""

    accuracies: Floats
    weights: Floats
    place: np.ndarray
    x: Floats
    y: Floats
    weight: Floats

    @property
    def levels(self) -> tuple[int, int, int]:
        """Distinct keep ratios on each axis; 1 on a closed one."""
        depth, width, resolution = (len(np.unique(self.x[:, a])) for a in range(3))
        return depth, width, resolution


def fit(points: Sequence[Point], *, kind: str = "auto", degree: int | None = None, rank: int = 1) -> tuple[AccuracyPredictor, FitReport]:
    """Fit F to measured points by weighted least squares.

    An axis on which all points share one keep ratio is closed: its factor is a constant.

    Args:
        points: Accuracies in [0, 1] at keep ratios in (0, 1]; repeats are allowed.
        kind: One of `KINDS`.
        degree: K of each open axis; None chooses among 1..3 by leave-one-out, with fewer where an axis has few levels.
        rank: R, 1 as in the paper; more needs off-axis points.

    Returns:
        The predictor and the report on it.

    Raises:
        FitError: The points do not determine the predictor; the message names the axis and what it needs.

    Source:
        Wang et al., ICML 2021, supplement, eq. 1.
    """
    if kind not in KINDS:
        raise FitError(f"The predictor's kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if rank < 1 or (degree is not None and degree < 1):
        raise FitError(f"The predictor's rank and degree must be 1 or more, got rank {rank}, degree {degree}.")
    data = _gather(points)
    candidates = {f"degree {k}": (k, _form(data, k, rank, degree is not None)) for k in _degrees(data, degree)}
    found = {name: _minimum(form, data) for name, (_, form) in candidates.items() if name == "degree 1" or _is_possible(form, data)}
    tried = {name: _mae(minimum.leave_one_out, data) for name, minimum in found.items()}
    best = min(tried, key=lambda name: tried[name])
    k, form = candidates[best]
    return _predictor(data, k, form, found[best]), _report(data, k, form, found[best], tried)


def _gather(points: Sequence[Point]) -> Data:
    if not points:
        raise FitError("A fit needs measured points, got none: collect trials first.")
    x = np.array([p.ratios.as_tuple() for p in points])
    y = np.array([p.accuracy for p in points])
    weight = np.array([p.weight for p in points])
    weight = weight / weight.mean()
    distinct, place = np.unique(x.round(9), axis=0, return_inverse=True)
    place = place.reshape(-1)
    total = np.bincount(place, weight)
    return Data(y, weight, place, distinct, np.bincount(place, weight * y) / total, total)


def _degrees(data: Data, degree: int | None) -> Sequence[int]:
    """Return the degrees to try; no axis can use more than its levels allow."""
    if degree is not None:
        return (degree,)
    return range(1, max(1, min(MAX_DEGREE, max(data.levels) - 2)) + 1)


def _form(data: Data, degree: int, rank: int, is_asked: bool) -> ProductForm:
    """Return the product form with this degree, or on axes with few levels less where the degree was not asked for."""
    degrees = []
    for axis, levels in zip(AXES, data.levels, strict=True):
        if is_asked and 1 < levels <= degree:
            raise FitError(
                f"The {axis} axis needs {degree + 1} distinct keep ratios for degree {degree}, got {levels}: "
                f"add {axis} trials or lower the degree."
            )
        most = degree if is_asked else min(degree, max(1, levels - 2))
        degrees.append(most if levels > 1 else 0)
    return ProductForm((degrees[0], degrees[1], degrees[2]), rank)


def _is_possible(form: ProductForm, data: Data) -> bool:
    return len(data.y) > form.num_free


def _minimum(form: ProductForm, data: Data) -> Minimum:
    shown = f"A predictor of degrees {form.degrees} and rank {form.rank}"
    if not _is_possible(form, data):
        need = ", ".join(f"{axis} {levels}" for axis, levels in zip(AXES, data.levels, strict=True))
        raise FitError(
            f"{shown} has {form.num_free} numbers to determine and needs {form.num_free + 1} distinct points, got {len(data.y)} "
            f"(distinct keep ratios: {need}): add trials, or lower the degree or the rank."
        )
    minimum = minimise(form, data.x, data.y, data.weight)
    if minimum.num_determined < form.num_free or not np.isfinite(minimum.leave_one_out).any():
        raise FitError(
            f"{shown} needs {form.num_free} independent numbers, but the points determine {minimum.num_determined}: {_confounded(data)}."
        )
    return minimum


def _confounded(data: Data) -> str:
    """Say which two axes always change together, if that is what is wrong."""
    for a, b in ((0, 1), (0, 2), (1, 2)):
        pairs = len(np.unique(data.x[:, [a, b]], axis=0))
        if 1 < pairs == data.levels[a] == data.levels[b]:
            return f"{AXES[a]} and {AXES[b]} always change together; add trials that cut only the {AXES[a]} axis"
    return "add trials that cut one axis only, and for a rank above 1 trials that cut all three"


def _mae(errors: Floats, data: Data) -> float:
    """Return the weighted mean absolute leave-one-out error over the points that the others can predict."""
    finite = np.isfinite(errors)
    return float(np.average(np.abs(errors[finite]), weights=data.weight[finite]))


def _predictor(data: Data, degree: int, form: ProductForm, minimum: Minimum) -> AccuracyPredictor:
    residuals = data.accuracies - form.value(minimum.coefficients, data.x)[data.place]
    spare = len(data.accuracies) - minimum.num_determined
    noise = float(np.sqrt(np.sum(data.weights * residuals**2) / spare))
    covariance = minimum.covariance * noise**2
    return AccuracyPredictor(
        kind="polynomial",
        degree=degree,
        rank=form.rank,
        degrees=form.degrees,
        coefficients=tuple(minimum.coefficients.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        noise=noise,
        quantile=float(special.stdtrit(spare, 0.95)),
        domain={axis: (float(data.x[:, a].min()), float(data.x[:, a].max())) for a, axis in enumerate(AXES)},
        num_points=len(data.accuracies),
    )


def _report(data: Data, degree: int, form: ProductForm, minimum: Minimum, tried: dict[str, float]) -> FitReport:
    residuals = data.accuracies - form.value(minimum.coefficients, data.x)[data.place]
    errors = minimum.leave_one_out[np.isfinite(minimum.leave_one_out)]
    return FitReport(
        kind="polynomial",
        degree=degree,
        rank=form.rank,
        num_points=len(data.accuracies),
        num_distinct=len(data.y),
        residuals=tuple(residuals.tolist()),
        rmse=float(np.sqrt(np.average(residuals**2, weights=data.weights))),
        leave_one_out_errors=tuple(errors.tolist()),
        leave_one_out_mae=_mae(minimum.leave_one_out, data),
        condition_number=minimum.condition_number,
        tried=tried,
    )
