from __future__ import annotations

import numpy as np
import pytest

from triaxis.errors import ConfigError
from triaxis.maths.cost import fit_cost
from triaxis.maths.lattice import Lattice
from triaxis.study.synthetic import cnn_cost, paper_cost, table_of
from triaxis.values import CostTable

TABLE = table_of(macs=cnn_cost)
X = np.random.default_rng(0).uniform(0.4, 1, (20, 3))


def test_a_posynomial_cost_is_recovered() -> None:
    model = fit_cost(TABLE, "macs")
    assert model.max_relative_error < 1e-9
    assert np.allclose(model.cost(X), [cnn_cost(*row) for row in X])


def test_lattice_and_costs_agree_row_by_row() -> None:
    x, costs = Lattice(TABLE).x, Lattice(TABLE).costs("macs")
    assert len(x) == 9 * 11 * 17
    assert np.allclose(costs, [cnn_cost(*row) for row in x])
    assert np.array_equal(x[0], [1, 1, 1])


def test_log_gradient_matches_finite_differences_and_is_the_papers_for_its_formula() -> None:
    model, h = fit_cost(TABLE, "macs"), 1e-6
    for a, step in enumerate(h * np.eye(3)):
        slope = (np.log(model.cost(X * np.exp(step))) - np.log(model.cost(X * np.exp(-step)))) / (2 * h)
        assert np.allclose(model.log_gradient(X)[:, a], slope, atol=1e-7)
    assert np.allclose(fit_cost(table_of(macs=paper_cost), "macs").log_gradient(X), [1, 2, 2], atol=1e-6)


def test_a_noisy_cost_is_fitted_monotone_with_its_error_reported() -> None:
    rng = np.random.default_rng(1)
    noisy = table_of(macs=paper_cost, latency_ms=lambda d, w, r: (0.3 + 2 * d * w * r**2) * float(rng.uniform(0.95, 1.05)))
    model = fit_cost(noisy, "latency_ms")
    assert 0.01 < model.mean_relative_error < 0.05
    assert model.max_relative_error < 0.1
    assert np.all(model.coefficients >= 0)
    assert np.all(model.log_gradient(X) >= 0)


def test_a_lattice_of_one_cut_and_a_missing_metric() -> None:
    one = CostTable(blocks=(9,), widths=(1.0,), sides_px=(32,), depth=(1.0,), width=(1.0,), resolution=(1.0,), costs={"macs": (((7.0,),),)})
    assert fit_cost(one, "macs").cost(np.ones((1, 3)))[0] == pytest.approx(7.0)
    with pytest.raises(ConfigError, match="no params costs"):
        fit_cost(one, "params")
