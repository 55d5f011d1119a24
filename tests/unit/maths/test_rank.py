from __future__ import annotations

import numpy as np
import pytest

from triaxis.maths.rank import factors, from_axes, from_cross, nearest_rank_one, rank_one_test, row_ratios, spread
from triaxis.study.synthetic import Surface, axis_ratios, measure, separable

LEVELS = (np.array([1.0, 0.8, 0.5]), np.array([1.0, 0.7, 0.6, 0.4]), np.array([1.0, 0.9, 0.75, 0.6, 0.5]))
GRID = np.stack(np.meshgrid(*LEVELS, indexing="ij"), -1)
F = separable(GRID.reshape(-1, 3)).reshape(GRID.shape[:3])
REFERENCES = [(0, 0, 0), (1, 2, 3), (2, 3, 4)]


@pytest.mark.parametrize("reference", REFERENCES)
def test_equations_3_to_7_are_exact_on_a_separable_surface(reference: tuple[int, int, int]) -> None:
    d2, w2, r2 = reference
    assert np.allclose(from_cross(F[d2], w2, r2), F[d2], rtol=0, atol=1e-12)  # eq. 3
    assert np.allclose(from_cross(F[:, w2], d2, r2), F[:, w2], rtol=0, atol=1e-12)  # eq. 4
    assert np.allclose(from_cross(F[:, :, r2], d2, w2), F[:, :, r2], rtol=0, atol=1e-12)  # eq. 5
    slices = F[:, w2, r2][:, None, None], F[d2, :, r2][None, :, None], F[d2, w2, :][None, None, :]
    assert np.allclose(from_axes(*slices, F[reference]), F, rtol=0, atol=1e-12)  # eq. 6
    d, w, r = factors(F[:, w2, r2], F[d2, :, r2], F[d2, w2, :], F[reference])
    assert np.allclose(np.einsum("i,j,k->ijk", d, w, r), F, rtol=0, atol=1e-12)  # eq. 7


def test_ratios_of_a_separable_table_are_constant_and_it_is_its_nearest_rank_one() -> None:
    assert spread(row_ratios(F[:, :, 1], 1)).max() < 1e-12
    found = nearest_rank_one(F[:, 0])
    assert found.share == pytest.approx(1, abs=1e-12)
    assert found.share_of_variation == pytest.approx(1, abs=1e-9)
    assert np.abs(found.residual).max() < 1e-12


def test_a_known_interaction_gives_the_known_deviation() -> None:
    """M = 1 + a b at a, b in {0, t}: the cross says 1 at the far corner, the truth is 1 + t^2."""
    t = 0.1
    table = np.array([[1.0, 1.0], [1.0, 1.0 + t**2]])
    assert (table - from_cross(table, 0, 0))[1, 1] == pytest.approx(t**2, abs=1e-15)
    assert spread(row_ratios(table, 0))[1] == pytest.approx(t**2, abs=1e-15)
    left = np.linalg.svd(table, compute_uv=False)[1]
    assert np.sqrt(np.sum(nearest_rank_one(table).residual ** 2)) == pytest.approx(left, abs=1e-12)


def _surface(kind: str) -> Surface:
    return Surface(kind=kind, base_error=0.06, low=(4 / 9, 0.375, 0.5), losses=(0.08, 0.08, 0.05), exponents=(1.0, 1.0, 1.0))  # type: ignore[arg-type]


OFF_AXIS = np.array([[4 / 9, 0.375, 1], [2 / 3, 0.5, 1], [4 / 9, 1, 0.5], [1, 0.375, 0.5], [4 / 9, 0.375, 0.5]])


def test_rank_one_holds_for_a_product_and_not_for_errors_that_multiply() -> None:
    product = rank_one_test(measure(_surface("product"), np.vstack([axis_ratios(), OFF_AXIS]), noise=0.002))
    assert product is not None
    assert product.points == (13, 14, 15, 16, 17)
    assert product.holds
    power = rank_one_test(measure(_surface("power"), np.vstack([axis_ratios(), OFF_AXIS]), noise=0.002))
    assert power is not None
    assert not power.holds
    assert power.interval[1] < 0
    truth = _surface("power")(OFF_AXIS) - _surface("product")(OFF_AXIS)
    assert power.interval[0] <= truth.mean() <= power.interval[1]


def test_the_interval_of_the_test_covers_nine_times_in_ten() -> None:
    ratios = np.vstack([axis_ratios(), OFF_AXIS])
    found = [rank_one_test(measure(_surface("product"), ratios, noise=0.003, seed=seed)) for seed in range(60)]
    assert 0.8 <= np.mean([test.holds for test in found if test]) <= 1.0


def test_axis_trials_alone_can_say_nothing() -> None:
    assert rank_one_test(measure(separable, axis_ratios())) is None
