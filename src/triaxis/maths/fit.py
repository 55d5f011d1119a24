"""Fit the accuracy predictor F(depth, width, resolution) to a dozen measured points.

Two kinds. "growth", the default: the error grows along each axis, joint effects have a prior and off-axis points switch
them on (growth.py, bayes.py). "polynomial", the paper's: a sum of R products of three polynomials of degree K (forms.py).

Source: Wang et al., ICML 2021, supplement, eq. 1 and 2. The choice of K by leave-one-out and the kind "growth" are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from triaxis.errors import FitError
from triaxis.maths.bayes import QUANTILE, average
from triaxis.maths.forms import ProductForm
from triaxis.maths.growth import ErrorGrowthForm
from triaxis.maths.least_squares import Minimum, minimise
from triaxis.maths.points import Data, confounded, gather, require_separable
from triaxis.maths.polynomial import Floats
from triaxis.maths.predict import Prediction, gradient, predict
from triaxis.values import AXES, AccuracyPredictor, FitReport, Point

__all__ = ["KINDS", "Prediction", "fit", "gradient", "predict"]

KINDS = ("auto", "growth", "polynomial")
MAX_DEGREE = 3
GROWTH_DEGREE = 6


def fit(points: Sequence[Point], *, kind: str = "auto", degree: int | None = None, rank: int = 1) -> tuple[AccuracyPredictor, FitReport]:
    """Fit F to measured points.

    An axis on which all points share one keep ratio is closed: it has no part in F, and its domain is that ratio.

    Args:
        points: Accuracies in [0, 1] at keep ratios in (0, 1]; repeats are allowed.
        kind: One of `KINDS`; "auto" is "growth", or "polynomial" where a degree or a rank above 1 is asked for.
        degree: Of the polynomials; for the paper's kind None chooses among 1..3 by leave-one-out, less where an axis has few levels.
        rank: R of the paper's kind; above 1 needs points that cut several axes.

    Returns:
        The predictor and the report on it.

    Raises:
        FitError: The points do not determine the predictor; the message names the axis and what it needs.

    Source:
        Wang et al., ICML 2021, supplement, eq. 1, for the kind "polynomial".
    """
    if kind not in KINDS:
        raise FitError(f"The predictor's kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if rank < 1 or (degree is not None and degree < 1):
        raise FitError(f"The predictor's rank and degree must be 1 or more, got rank {rank}, degree {degree}.")
    data = gather(points)
    require_separable(data)
    if kind == "polynomial" or (kind == "auto" and (degree is not None or rank > 1)):
        return _fit_polynomial(data, degree, rank)
    if rank > 1:
        raise FitError(f"Only the kind polynomial has a rank, got rank {rank} with kind {kind}: leave the rank at 1.")
    return _fit_growth(data, degree or GROWTH_DEGREE)


def _fit_growth(data: Data, degree: int) -> tuple[AccuracyPredictor, FitReport]:
    depth, width, resolution = (degree if levels > 1 else 0 for levels in data.levels)
    spans = -np.log(data.x.min(axis=0))
    form = ErrorGrowthForm((depth, width, resolution), (float(spans[0]), float(spans[1]), float(spans[2])))
    found = average(form, data.x, data.y, data.weight, data.num_repeats, data.repeat_squares)
    predictor = _predictor(data, "growth", form, degree, found.coefficients, found.covariance, found.noise, QUANTILE)
    tried = {f"growth, degree {degree}": _mae(found.leave_one_out, data)}
    return predictor, _report(data, predictor, form, found.leave_one_out, found.condition_number, tried)


def _fit_polynomial(data: Data, degree: int | None, rank: int) -> tuple[AccuracyPredictor, FitReport]:
    candidates = {k: _product_form(data, k, rank, degree is not None) for k in _degrees(data, degree)}
    found = _determined_minima(candidates, data)
    tried = {k: _mae(minimum.leave_one_out, data) for k, minimum in found.items()}
    best = min(tried, key=lambda k: tried[k])
    form, minimum = candidates[best], found[best]
    residuals = data.accuracies - form.value(minimum.coefficients, data.x)[data.place]
    spare = len(data.accuracies) - minimum.num_determined
    noise = float(np.sqrt(np.sum(data.weights * residuals**2) / spare))
    quantile = float(special.stdtrit(spare, 0.95))
    predictor = _predictor(data, "polynomial", form, best, minimum.coefficients, minimum.covariance * noise**2, noise, quantile)
    shown = {f"degree {k}": error for k, error in tried.items()}
    return predictor, _report(data, predictor, form, minimum.leave_one_out, minimum.condition_number, shown)


def _degrees(data: Data, degree: int | None) -> Sequence[int]:
    """Return the degrees to try; no axis can use more than its levels allow."""
    if degree is not None:
        return (degree,)
    return range(1, max(1, min(MAX_DEGREE, max(data.levels) - 2)) + 1)


def _product_form(data: Data, degree: int, rank: int, is_asked: bool) -> ProductForm:
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


def _determined_minima(candidates: dict[int, ProductForm], data: Data) -> dict[int, Minimum]:
    """Return the minimum for each degree that the points determine; there must be one."""
    minima = {k: minimise(form, data.x, data.y, data.weight) for k, form in candidates.items() if _is_possible(form, data)}
    found = {k: minimum for k, minimum in minima.items() if _is_determined(candidates[k], minimum)}
    least = min(candidates)
    return found or {least: _minimum(candidates[least], data)}


def _is_determined(form: ProductForm, minimum: Minimum) -> bool:
    return minimum.num_determined >= form.num_free and bool(np.isfinite(minimum.leave_one_out).any())


def _is_possible(form: ProductForm, data: Data) -> bool:
    return len(data.y) > form.num_free


def _minimum(form: ProductForm, data: Data) -> Minimum:
    shown = f"A polynomial predictor of degrees {form.degrees} and rank {form.rank}"
    if not _is_possible(form, data):
        raise FitError(
            f"{shown} has {form.num_free} numbers to determine and needs {form.num_free + 1} distinct points, got {len(data.y)} "
            f"(distinct keep ratios: {data.shown_levels()}): add trials, or lower the degree or the rank."
        )
    minimum = minimise(form, data.x, data.y, data.weight)
    if not _is_determined(form, minimum):
        raise FitError(
            f"{shown} needs {form.num_free} independent numbers, but the points determine {minimum.num_determined}: {confounded(data)}."
        )
    return minimum


def _mae(errors: Floats, data: Data) -> float:
    """Return the weighted mean absolute leave-one-out error over the points that the others can predict."""
    finite = np.isfinite(errors)
    return float(np.average(np.abs(errors[finite]), weights=data.weight[finite]))


def _predictor(
    data: Data, kind: str, form: ProductForm | ErrorGrowthForm, degree: int, c: Floats, covariance: Floats, noise: float, quantile: float
) -> AccuracyPredictor:
    return AccuracyPredictor(
        kind=kind,
        degree=degree,
        rank=form.rank if isinstance(form, ProductForm) else 1,
        degrees=form.degrees,
        coefficients=tuple(c.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        noise=noise,
        quantile=quantile,
        domain=data.domain,
        num_points=len(data.accuracies),
    )


def _report(
    data: Data,
    predictor: AccuracyPredictor,
    form: ProductForm | ErrorGrowthForm,
    leave_one_out: Floats,
    condition_number: float,
    tried: dict[str, float],
) -> FitReport:
    residuals = data.accuracies - form.value(np.array(predictor.coefficients), data.x)[data.place]
    return FitReport(
        kind=predictor.kind,
        degree=predictor.degree,
        rank=predictor.rank,
        num_points=len(data.accuracies),
        num_distinct=len(data.y),
        residuals=tuple(residuals.tolist()),
        rmse=float(np.sqrt(np.average(residuals**2, weights=data.weights))),
        leave_one_out_errors=tuple(leave_one_out[np.isfinite(leave_one_out)].tolist()),
        leave_one_out_mae=_mae(leave_one_out, data),
        condition_number=condition_number,
        tried=tried,
    )
