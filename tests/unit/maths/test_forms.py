from __future__ import annotations

import numpy as np
import pytest

from triaxis.maths.forms import Form, ProductForm
from triaxis.maths.growth import ErrorGrowthForm, bernstein_integrals

FORMS: list[Form] = [
    ProductForm((3, 3, 3)),
    ProductForm((2, 0, 3)),
    ProductForm((2, 1, 3), rank=2),
    ErrorGrowthForm((4, 4, 4), (1.2, 0.8, 0.7)),
    ErrorGrowthForm((3, 0, 2), (1.2, 0.1, 0.7)),
]


def _coefficients(form: Form) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.05, 0.3, form.num_coefficients)


def _inputs() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.5, 0.99, (6, 3))


@pytest.mark.parametrize("form", FORMS)
def test_jacobian_matches_finite_differences(form: Form) -> None:
    c, x, h = _coefficients(form), _inputs(), 1e-6
    steps = h * np.eye(len(c))
    numeric = np.stack([(form.value(c + step, x) - form.value(c - step, x)) / (2 * h) for step in steps], axis=1)
    assert np.allclose(form.jacobian(c, x), numeric, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_matches_finite_differences(form: Form) -> None:
    c, x, h = _coefficients(form), _inputs(), 1e-6
    numeric = np.stack([(form.value(c, x + step) - form.value(c, x - step)) / (2 * h) for step in h * np.eye(3)], axis=1)
    assert np.allclose(form.gradient(c, x), numeric, atol=1e-7)


def test_rank_one_is_the_product_of_three_polynomials() -> None:
    form, x = ProductForm((1, 1, 1)), np.array([[0.5, 0.25, 0.75]])
    c = np.array([0.9, 0.2, 1.0, 0.4, 1.0, 0.8])
    assert form.value(c, x)[0] == pytest.approx((0.9 - 0.1) * (1 - 0.3) * (1 - 0.2), abs=1e-15)


def test_error_growth_multiplies_small_errors_where_the_joint_effect_is_one() -> None:
    form = ErrorGrowthForm((1, 1, 1), (1.0, 1.0, 1.0))
    base, slope_d, slope_w = 0.1, 1e-4, 2e-4
    c = np.array([base, slope_d, slope_w, 0.0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0])
    x = np.exp(-np.array([[1.0, 1.0, 0.0]]))
    multiplied = base * (1 + slope_d / base) * (1 + slope_w / base)
    assert 1 - form.value(c, x)[0] == pytest.approx(multiplied, abs=1e-12)


def test_error_growth_goes_on_straight_beyond_the_measured_range() -> None:
    s = np.array([1.0, 1.5, 2.0])
    columns = bernstein_integrals(s, 1.0, 3)
    assert np.allclose(columns[1] - columns[0], columns[2] - columns[1])
    assert np.allclose(bernstein_integrals(s[:1], 1.0, 3).sum(), 1.0)
