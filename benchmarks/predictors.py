"""Score accuracy predictors on Table 1 and on synthetic surfaces: ``python benchmarks/predictors.py``.

Protocol. Fit on the 13 places that cut at most one axis (19 printed values), and on those plus 3 and plus 6 places off the
axes; score on all the values that were not fitted. The off-axis places are chosen by their ratios alone, for each pair of
axes the place that cuts both most and then the one nearest to half way (`design.pair_points`); accuracies are never looked
at. A second rule, `design.most_telling`, looks at the axis accuracies only. Every predictor has the same settings for both
families and the synthetic third; whatever is chosen is chosen from the fitted values.

Writes results/predictors.json and results/predictors.md beside this file. Runs in about two minutes.
"""

from __future__ import annotations

import itertools
import json
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import sklearn
from scipy import optimize, special, stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from triaxis.maths.design import most_telling, pair_points
from triaxis.maths.fit import fit, predict
from triaxis.maths.rank import from_axes
from triaxis.study.synthetic import KINDS, random_surface
from triaxis.study.table1 import FAMILIES, FAMILY_NAMES, points_of
from triaxis.values import KeepRatios, Point

RESULTS = Path(__file__).parent / "results"
NUM_SURFACES = 12
NOISES = (0.0015, 0.003, 0.005)
TARGETS = {(0, "resnet"): 0.38, (0, "densenet"): 0.44, (3, "resnet"): 0.33, (3, "densenet"): 0.33}


class Predicted(NamedTuple):
    """Accuracies at the scored places, with 90 % intervals where the predictor has them."""

    accuracy: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], Predicted]


def _points(x: np.ndarray, y: np.ndarray) -> list[Point]:
    return [Point(ratios=KeepRatios(depth=d, width=w, resolution=r), accuracy=a) for (d, w, r), a in zip(x.tolist(), y, strict=True)]


def fitted(**settings: Any) -> Predictor:
    """Our own fits."""

    def run(x: np.ndarray, y: np.ndarray, scored: np.ndarray) -> Predicted:
        return Predicted(*predict(fit(_points(x, y), **settings)[0], scored))

    return run


def equation_6(x: np.ndarray, y: np.ndarray, scored: np.ndarray) -> Predicted:
    """The product of the raw slices through the base model; off-axis points cannot be used. Linear between measured levels."""

    def slice_at(a: int) -> np.ndarray:
        on = np.all(np.delete(x, a, axis=1) == 1, axis=1)
        levels, place = np.unique(x[on, a], return_inverse=True)
        return np.interp(scored[:, a], levels, np.bincount(place, y[on]) / np.bincount(place))

    base = float(y[np.all(x == 1, axis=1)].mean())
    return Predicted(from_axes(slice_at(0), slice_at(1), slice_at(2), base))


def power_law(x: np.ndarray, y: np.ndarray, scored: np.ndarray) -> Predicted:
    """An additive power law in the error: 1 - F = c + sum over axes of b (x^-p - 1)."""

    def error(c: np.ndarray, at: np.ndarray) -> np.ndarray:
        return c[0] + np.sum(c[1:4] * (at ** -c[4:7] - 1), axis=1)

    start = np.array([0.07, 0.05, 0.05, 0.05, 1.0, 1.0, 1.0])
    bounds = ([0, 0, 0, 0, 0.05, 0.05, 0.05], [1, 5, 5, 5, 6, 6, 6])
    found = optimize.least_squares(lambda c: error(c, x) - (1 - y), start, bounds=bounds)
    return Predicted(1 - error(found.x, scored))


def ridge(x: np.ndarray, y: np.ndarray, scored: np.ndarray) -> Predicted:
    """A full cubic in (d, w, r) with ridge; its strength by leave-one-out."""
    model = make_pipeline(PolynomialFeatures(3, include_bias=False), StandardScaler(), RidgeCV(np.logspace(-6, 2, 17)))
    return Predicted(model.fit(x, y).predict(scored))


def gaussian_process(x: np.ndarray, y: np.ndarray, scored: np.ndarray) -> Predicted:
    """A Gaussian process with one length per axis and noise, by marginal likelihood."""
    kernel = ConstantKernel(1.0) * RBF([0.5, 0.5, 0.5], (0.05, 20)) + WhiteKernel(0.01, (1e-5, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0).fit(x, y)
    mean, deviation = model.predict(scored, return_std=True)
    return Predicted(mean, mean - special.ndtri(0.95) * deviation, mean + special.ndtri(0.95) * deviation)


def random_forest(x: np.ndarray, y: np.ndarray, scored: np.ndarray) -> Predicted:
    """A random forest of 200 trees."""
    return Predicted(RandomForestRegressor(200, random_state=0).fit(x, y).predict(scored))


PREDICTORS: dict[str, Predictor] = {
    "growth (triaxis's default)": fitted(kind="growth"),
    "rank-1 cubic (the paper's)": fitted(kind="polynomial", degree=3),
    "rank 1, degree by leave-one-out": fitted(kind="polynomial"),
    "eq. 6 on the raw slices": equation_6,
    "additive power law in the error": power_law,
    "full cubic with ridge": ridge,
    "Gaussian process": gaussian_process,
    "random forest": random_forest,
}


class Task(NamedTuple):
    """What is fitted and what is scored."""

    x: np.ndarray
    y: np.ndarray
    scored_x: np.ndarray
    scored_y: np.ndarray


def split(x: np.ndarray, y: np.ndarray, extra: int, rule: str) -> Task:
    """Fit on the places that cut at most one axis and on `extra` more; score on the rest."""
    is_fitted = np.sum(x < 1, axis=1) <= 1
    places = np.unique(x[~is_fitted], axis=0)
    if rule == "place alone":
        chosen = pair_points(places, extra)
    else:
        chosen = most_telling(fit(_points(x[is_fitted], y[is_fitted]))[0], places, extra)
    for row in chosen:
        is_fitted[np.flatnonzero(np.all(x == places[row], axis=1))[0]] = True
    return Task(x[is_fitted], y[is_fitted], x[~is_fitted], y[~is_fitted])


def table1_task(family: str, extra: int, rule: str) -> Task:
    """Table 1 of one family."""
    points = points_of(family)  # type: ignore[arg-type]
    return split(np.array([p.ratios.as_tuple() for p in points]), np.array([p.accuracy for p in points]), extra, rule)


def synthetic_tasks(extra: int, rule: str) -> list[Task]:
    """Surfaces of five kinds with known noise, on five levels an axis, scored where two axes or all three are cut."""
    tasks = []
    for kind, seed, noise in itertools.product(KINDS, range(1000, 1000 + NUM_SURFACES), NOISES):
        surface, rng = random_surface(kind, seed), np.random.default_rng(seed)
        levels = [np.linspace(1, low, 5) for low in surface.low]
        x = np.array(list(itertools.product(*levels)))
        y = np.clip(surface(x) + noise * rng.normal(size=len(x)), 0, 1)
        # Below 30 % a network is broken, and no budget asks for it.
        usable = (surface(x) > 0.3) & (np.sum(x < 1, axis=1) <= 3)
        tasks.append(split(x[usable], y[usable], extra, rule))
    return tasks


def score(predictor: Predictor, tasks: Sequence[Task]) -> dict[str, float]:
    """Return errors in points over all tasks: mean, root mean square, worst; rank correlation; coverage of the 90 % interval."""
    errors, ranks, inside, seconds = [], [], [], []
    for task in tasks:
        start = time.process_time()
        found = predictor(task.x, task.y, task.scored_x)
        seconds.append(time.process_time() - start)
        errors.append(np.abs(found.accuracy - task.scored_y))
        ranks.append(stats.spearmanr(found.accuracy, task.scored_y).statistic)
        if found.low is not None and found.high is not None:
            inside.append((task.scored_y >= found.low) & (task.scored_y <= found.high))
    flat = 100 * np.concatenate(errors)
    scores = {"mae": flat.mean(), "rmse": np.sqrt(np.mean(flat**2)), "worst": flat.max(), "rank_correlation": np.nanmean(ranks)}
    scores["median_error"] = float(np.median(flat))
    if inside:
        scores["coverage"] = float(np.concatenate(inside).mean())
    return {name: round(float(value), 4) for name, value in scores.items()} | {"ms": round(1e3 * float(np.median(seconds)), 1)}


def run() -> dict[str, Any]:
    """Score every predictor on every task."""
    found: dict[str, Any] = {}
    for rule, extra in (("place alone", 0), ("place alone", 3), ("place alone", 6), ("most telling", 3), ("most telling", 6)):
        names = PREDICTORS if rule == "place alone" else list(PREDICTORS)[:3]
        sets = {family: [table1_task(family, extra, rule)] for family in FAMILIES} | {"synthetic": synthetic_tasks(extra, rule)}
        for data, tasks in sets.items():
            slow = ("Gaussian process", "random forest")
            # Fitting a forest 180 times tells nothing more; the slow two see every ninth surface.
            rows = {name: score(PREDICTORS[name], tasks[::9] if name in slow and len(tasks) > 1 else tasks) for name in names}
            found[f"{rule}, +{extra}, {data}"] = rows
            print(rule, extra, data, {name: row["mae"] for name, row in rows.items()}, flush=True)
    return found


def table(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    shown = {**FAMILY_NAMES, "synthetic": "synthetic"}
    text = ["# Predictors on Table 1 and on synthetic surfaces", "", f"By `python benchmarks/predictors.py`; {versions()}.", ""]
    text += ["MAE in points on the values that were not fitted; in brackets the coverage of the 90 % interval.", ""]
    columns = [(extra, data) for extra in (0, 3, 6) for data in shown]
    text += ["| predictor | " + " | ".join(f"{shown[data]}, 13 + {extra}" for extra, data in columns) + " |"]
    text += ["|---" * (len(columns) + 1) + "|"]
    for name in PREDICTORS:
        text += [f"| {name} | " + " | ".join(_cell(found[f"place alone, +{extra}, {data}"][name]) for extra, data in columns) + " |"]
    text += ["", "Off-axis points by `most_telling`, which sees the axis accuracies only:", ""]
    columns = columns[3:]
    text += ["| predictor | " + " | ".join(f"{shown[data]}, 13 + {extra}" for extra, data in columns) + " |"]
    text += ["|---" * (len(columns) + 1) + "|"]
    for name in list(PREDICTORS)[:3]:
        text += [f"| {name} | " + " | ".join(_cell(found[f"most telling, +{extra}, {data}"][name]) for extra, data in columns) + " |"]
    text += [
        "",
        "All scores of the default:",
        "",
        "| points | data | MAE | RMSE | worst | rank correlation | coverage | target |",
        "|---" * 8 + "|",
    ]
    for extra, data in [(extra, data) for extra in (0, 3, 6) for data in shown]:
        row = found[f"place alone, +{extra}, {data}"]["growth (triaxis's default)"]
        target = TARGETS.get((extra, data))
        met = "" if target is None else f"{target} {'met' if row['mae'] <= target else 'missed'}"
        cells = (row["mae"], row["rmse"], row["worst"], row["rank_correlation"])
        text += [f"| 13 + {extra} | {shown[data]} | " + " | ".join(f"{cell:.3f}" for cell in cells) + f" | {row['coverage']:.2f} | {met} |"]
    return "\n".join(text) + "\n"


def _cell(row: dict[str, float]) -> str:
    coverage = f" ({100 * row['coverage']:.0f} %)" if "coverage" in row else ""
    return f"{row['mae']:.3f}{coverage}"


def versions() -> str:
    """Return the versions that the numbers depend on."""
    return f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, scikit-learn {sklearn.__version__}"


def main() -> None:
    """Run and write both files."""
    found = run()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "predictors.json").write_text(json.dumps({"versions": versions(), "results": found}, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "predictors.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
