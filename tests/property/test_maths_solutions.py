"""Whatever the trials and the budget: never over budget, more budget never hurts, JSON gives the same predictor back."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triaxis.maths.fit import fit, predict
from triaxis.maths.solve import solve
from triaxis.study.synthetic import KINDS, axis_ratios, cnn_cost, cnn_params, measure, random_surface, table_of
from triaxis.values import AccuracyPredictor, Budget

TABLE = table_of(macs=cnn_cost, params=cnn_params)


@st.composite
def predictors(draw: st.DrawFn) -> AccuracyPredictor:
    surface = random_surface(draw(st.sampled_from(KINDS)), draw(st.integers(0, 200)))
    low = (draw(st.sampled_from([1 / 3, 5 / 9])), draw(st.sampled_from([0.375, 0.5])), draw(st.sampled_from([0.5, 0.75])))
    points = measure(surface, axis_ratios(low), draw(st.sampled_from([0.0, 0.003, 0.02])), draw(st.integers(0, 9)))
    return fit(points, kind=draw(st.sampled_from(["growth", "polynomial"])))[0]


@settings(max_examples=25, deadline=None)
@given(predictors(), st.floats(0.02, 1.0), st.floats(1.0, 2.0))
def test_solutions_keep_to_the_budget_and_more_budget_never_hurts(predictor: AccuracyPredictor, fraction: float, more: float) -> None:
    small, large = (Budget(metric="macs", limit=1e6 * fraction * factor) for factor in (1.0, more))
    tight = solve(predictor, TABLE, [small], with_continuous=False)
    loose = solve(predictor, TABLE, [large], with_continuous=False)
    assert tight.costs["macs"] <= small.limit
    assert tight.interval[0] <= tight.predicted_accuracy <= tight.interval[1]
    if tight.status != "extrapolated":
        assert loose.predicted_accuracy >= tight.predicted_accuracy - 1e-12


@settings(max_examples=15, deadline=None)
@given(predictors(), st.floats(0.05, 1.0), st.floats(0.1, 1.0))
def test_every_budget_holds(predictor: AccuracyPredictor, macs: float, params: float) -> None:
    budgets = [Budget(metric="macs", limit=1e6 * macs), Budget(metric="params", limit=1e5 * params)]
    found = solve(predictor, TABLE, budgets, with_continuous=False)
    assert all(budget.slack(found.costs[budget.metric]) >= 0 for budget in budgets)


@settings(max_examples=15, deadline=None)
@given(predictors())
def test_json_gives_the_same_predictor_and_the_same_predictions(predictor: AccuracyPredictor) -> None:
    again = AccuracyPredictor.from_json(json.loads(json.dumps(predictor.to_json(), allow_nan=False)))
    x = np.random.default_rng(0).uniform(0.3, 1, (20, 3))
    assert again == predictor
    assert np.array_equal(predict(again, x), predict(predictor, x))
