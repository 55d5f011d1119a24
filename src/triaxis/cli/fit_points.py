"""`triaxis fit POINTS.csv`: the accuracy predictor for people who have their own measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from triaxis.cli import show
from triaxis.cli.frame import out, print_json
from triaxis.errors import ConfigError
from triaxis.maths.fit import fit
from triaxis.maths.predict import Prediction, predict
from triaxis.maths.solve import solve
from triaxis.study.points_file import read_points, read_ratios
from triaxis.values import AXES, AccuracyPredictor, Budget, CostTable, KeepRatios, Solution, parse_budgets

NUM_LEVELS = 33


def fit_points(source: Path, *, predict: Path | None = None, budget: list[str] | None = None, as_json: bool = False) -> None:
    """Fit a file of points; predict the rows of another file; find the best ratios within budgets.

    A file of points has no cuts to count, so a budget is a percentage of the paper's formulas: d w^2 r^2 for MACs,
    d w^2 for params.

    Raises:
        DataError: A file is unusable; bad rows are named by line.
        FitError: The points do not determine the predictor.
        ConfigError: A budget is not a percentage of macs or params, or a metric has two.
    """
    predictor, report = fit(read_points(source))
    ratios = read_ratios(predict) if predict else []
    predicted = _predict(predictor, ratios)
    solution = _solve(predictor, budget) if budget else None
    if as_json:
        rows = [_row(*row) for row in zip(ratios, *predicted, strict=True)]
        found = solution and {name: part for name, part in solution.to_json().items() if name not in ("blocks", "width", "side_px")}
        print_json({"predictor": predictor.to_json(), "fit_report": report.to_json(), "predictions": rows, "solution": found})
        return
    show.fit_report(report)
    if ratios:
        _print_predictions(ratios, predicted)
    if solution:
        _print_solution(solution)


def _predict(predictor: AccuracyPredictor, ratios: list[KeepRatios]) -> Prediction:
    return predict(predictor, np.array([x.as_tuple() for x in ratios]).reshape(-1, 3))


def _solve(predictor: AccuracyPredictor, budgets: list[str]) -> Solution:
    specs = parse_budgets(budgets)
    for spec in specs:
        if spec.metric not in ("macs", "params") or spec.fraction is None:
            raise ConfigError(
                f"A budget for a file of points must be a percentage of macs or params (such as macs=50%), got {spec.metric}."
            )
    return solve(predictor, _formula_table(predictor), [Budget(metric=s.metric, limit=s.fraction or 1, fraction=s.fraction) for s in specs])


def _formula_table(predictor: AccuracyPredictor) -> CostTable:
    """Return a fine lattice over the measured range, priced by the paper's formulas, base model 1."""
    levels = [np.linspace(1.0, predictor.domain[axis][0], NUM_LEVELS if predictor.domain[axis][0] < 1 else 1) for axis in AXES]
    d, w, r = np.meshgrid(*levels, indexing="ij")
    costs = {"macs": d * w**2 * r**2, "params": d * w**2}
    return CostTable(
        blocks=tuple(range(len(levels[0]), 0, -1)),
        widths=tuple(levels[1].tolist()),
        sides_px=tuple(range(len(levels[2]), 0, -1)),
        depth=tuple(levels[0].tolist()),
        width=tuple(levels[1].tolist()),
        resolution=tuple(levels[2].tolist()),
        costs={name: tuple(tuple(tuple(row) for row in plane) for plane in cube.tolist()) for name, cube in costs.items()},
    )


def _row(ratios: KeepRatios, accuracy: float, low: float, high: float) -> dict[str, Any]:
    return {**{axis: getattr(ratios, axis) for axis in AXES}, "accuracy": float(accuracy), "low": float(low), "high": float(high)}


def _print_predictions(ratios: list[KeepRatios], predicted: Prediction) -> None:
    table = Table(*AXES, "predicted accuracy", "90 %")
    for x, accuracy, low, high in zip(ratios, *predicted, strict=True):
        table.add_row(*(f"{ratio:.3f}" for ratio in x.as_tuple()), show.percent(accuracy), f"{show.percent(low)} to {show.percent(high)}")
    out.print(table)


def _print_solution(found: Solution) -> None:
    low, high = found.interval
    spent = ", ".join(f"{budget.metric} {found.costs[budget.metric]:.1%} of {budget.limit:.1%}" for budget in found.budgets)
    out.print(
        f"best within budget, by the formulas d w^2 r^2 (MACs) and d w^2 (params): {found.ratios}\n"
        f"predicted accuracy {show.percent(found.predicted_accuracy)} (90 %: {show.percent(low)} to {show.percent(high)}); {spent}"
    )
