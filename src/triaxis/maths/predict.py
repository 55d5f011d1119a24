"""Accuracy, its interval and its gradient from a fitted predictor, for many keep ratios at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from triaxis.maths.forms import Form, ProductForm
from triaxis.maths.growth import ErrorGrowthForm
from triaxis.maths.polynomial import Floats
from triaxis.values import AXES, AccuracyPredictor


class Prediction(NamedTuple):
    """Arrays of shape (n,), accuracies in [0, 1]; a new measurement falls in low..high with probability 0.9."""

    accuracy: Floats
    low: Floats
    high: Floats


def form_of(predictor: AccuracyPredictor) -> Form:
    """Return the function family that the predictor's coefficients belong to."""
    if predictor.kind == "polynomial":
        return ProductForm(predictor.degrees, predictor.rank)
    depth, width, resolution = (-math.log(predictor.domain[axis][0]) for axis in AXES)
    return ErrorGrowthForm(predictor.degrees, (depth, width, resolution))


def predict(predictor: AccuracyPredictor, ratios: ArrayLike) -> Prediction:
    """Predict accuracies with 90 % intervals.

    The interval is F +- t sqrt(J S J' + noise^2), with J = dF/dc and S the covariance of the coefficients.

    Args:
        predictor: From `fit`.
        ratios: Shape (n, 3), keep ratios (depth, width, resolution) in (0, 1].

    Returns:
        Three arrays of shape (n,), clipped to [0, 1].
    """
    x = _rows(ratios)
    c, form = np.array(predictor.coefficients), form_of(predictor)
    mean = form.value(c, x)
    jacobian = form.jacobian(c, x)
    variance = np.einsum("ni,ij,nj->n", jacobian, np.array(predictor.covariance), jacobian)
    half = predictor.quantile * np.sqrt(np.maximum(variance, 0.0) + predictor.noise**2)
    low, high = np.clip(mean - half, 0.0, 1.0), np.clip(mean + half, 0.0, 1.0)
    return Prediction(np.clip(mean, 0.0, 1.0), low, high)


def accuracy(predictor: AccuracyPredictor, ratios: ArrayLike) -> Floats:
    """Predict accuracies only, shape (n,), clipped to [0, 1]; much cheaper than `predict`."""
    return np.clip(form_of(predictor).value(np.array(predictor.coefficients), _rows(ratios)), 0.0, 1.0)


def gradient(predictor: AccuracyPredictor, ratios: ArrayLike) -> Floats:
    """Return dF/d(depth, width, resolution).

    Args:
        predictor: From `fit`.
        ratios: Shape (n, 3), keep ratios in (0, 1].

    Returns:
        Shape (n, 3), accuracy per unit of keep ratio.
    """
    return form_of(predictor).gradient(np.array(predictor.coefficients), _rows(ratios))


def _rows(ratios: ArrayLike) -> Floats:
    return np.asarray(ratios, float).reshape(-1, 3)
