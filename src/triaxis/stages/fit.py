"""Fit, from a run's records alone: the accuracy predictor. Imports no torch, so that an answer takes no time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from triaxis.errors import StoreError
from triaxis.maths.fit import fit
from triaxis.store.base import Store
from triaxis.values import AccuracyPredictor, FitReport, Point, TrialResult, done_trials

if TYPE_CHECKING:
    from triaxis.config import Config


def points_from_trials(trials: Iterable[TrialResult]) -> list[Point]:
    """Return one point for each finished trial: the val accuracy at the keep ratios that were achieved."""
    return [Point(ratios=trial.achieved, accuracy=trial.val_accuracy) for trial in done_trials(trials)]


def fit_run(store: Store, config: Config) -> tuple[AccuracyPredictor, FitReport]:
    """Fit the accuracy predictor to the run's trials and store it with its report.

    Raises:
        FitError: The trials do not determine the predictor.
        StoreError: There are no trials yet.
    """
    predictor, report = fit(_points_of(store), kind=config.fit.kind, degree=config.fit.degree, rank=config.fit.rank)
    store.put_record("predictor", predictor.to_json())
    store.put_record("fit_report", report.to_json())
    return predictor, report


def predictor_to_place_by(store: Store, config: Config) -> AccuracyPredictor:
    """Fit what tells where to measure off the axes; it is the run's own predictor where the trials so far can determine that.

    A rank above 1 can only be fitted once trials off the axes are measured, so that these are placed by the kind "growth".

    Raises:
        FitError: The trials do not determine the predictor.
        StoreError: There are no trials yet.
    """
    if config.fit.rank == 1:
        return fit_run(store, config)[0]
    return fit(_points_of(store), kind="growth")[0]


def read_predictor(store: Store) -> tuple[AccuracyPredictor, FitReport]:
    """Return the run's accuracy predictor and the report on its fit.

    Raises:
        StoreError: Nothing was fitted yet.
    """
    predictor = AccuracyPredictor.from_json(needed(store, "predictor", "accuracy predictor", "fit"))
    return predictor, FitReport.from_json(needed(store, "fit_report", "report of its fit", "fit"))


def _points_of(store: Store) -> list[Point]:
    """Return the run's points; those measured with shared weights are lifted, see `triaxis.stages.elastic.lift`."""
    trials = store.trials()
    if not trials:
        raise StoreError("A fit needs trials, but the run has none yet: run `triaxis collect RUN` first.")
    lift = (store.record("elastic") or {}).get("lift", 0.0)
    return [dataclasses.replace(p, accuracy=min(1.0, max(0.0, p.accuracy + lift))) for p in points_from_trials(trials)]


def needed(store: Store, key: str, name: str, command: str) -> dict[str, object]:
    plain = store.record(key)
    if plain is None:
        raise StoreError(f"The run must have its {name} stored, but has none yet: run `triaxis {command} RUN` first.")
    return plain
