"""The default predictor's error on Table 1 stays what docs/predictor.md says; the benchmark itself is benchmarks/predictors.py."""

from __future__ import annotations

import numpy as np
import pytest

from triaxis.maths.design import pair_points
from triaxis.maths.fit import fit, predict
from triaxis.study.table1 import points_of
from triaxis.values import Point


def _scored(family: str, num_off_axis: int) -> tuple[list[Point], list[Point]]:
    """Split into fitted and scored points, the off-axis ones chosen by their place alone."""
    points = points_of(family)  # type: ignore[arg-type]
    x = np.array([p.ratios.as_tuple() for p in points])
    is_fitted = np.sum(x < 1, axis=1) <= 1
    places = np.unique(x[~is_fitted], axis=0)
    for row in pair_points(places, num_off_axis):
        is_fitted[np.flatnonzero(np.all(x == places[row], axis=1))[0]] = True
    return [p for p, f in zip(points, is_fitted, strict=True) if f], [p for p, f in zip(points, is_fitted, strict=True) if not f]


def _mae(fitted: list[Point], scored: list[Point], **settings: object) -> float:
    predictor, _ = fit(fitted, **settings)  # type: ignore[arg-type]
    predicted = predict(predictor, [p.ratios.as_tuple() for p in scored]).accuracy
    return 100 * float(np.mean(np.abs(predicted - [p.accuracy for p in scored])))


@pytest.mark.parametrize(
    ("family", "num_off_axis", "num_scored", "documented", "target"),
    [("resnet", 0, 56, 0.335, 0.38), ("densenet", 0, 56, 0.316, 0.44), ("resnet", 3, 53, 0.175, 0.33), ("densenet", 3, 53, 0.329, 0.33)],
)
def test_the_documented_error(family: str, num_off_axis: int, num_scored: int, documented: float, target: float) -> None:
    fitted, scored = _scored(family, num_off_axis)
    assert len(scored) == num_scored
    error = _mae(fitted, scored)
    assert error == pytest.approx(documented, abs=0.001)
    assert error <= target
    assert error < _mae(fitted, scored, kind="polynomial", degree=3)
