"""Everything that a report is made of, read from a run's store in one go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from triaxis.store.base import Store
from triaxis.values import AccuracyPredictor, CostTable, FitReport, PrunePlan, Solution, TrialResult, Value, Verification
from triaxis.values.score import score_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What a run has found so far; None or empty where its stage was not reached yet.

    `config`, `anatomy`, `base`, `collection`, `environment` and `int8` are plain data as stored; `seconds` is by stage. Of
    `collection`, a report shows `cost_ratio` (collection / base training, in images x MACs); of runs of version 0.1 it makes
    the intervals of val accuracies from `num_val` (images in the val split) or `val_class_sizes`.
    """

    config: dict[str, Any] = field(default_factory=dict)
    anatomy: dict[str, Any] | None = None
    base: dict[str, Any] = field(default_factory=dict)
    trials: tuple[TrialResult, ...] = ()
    cost_table: CostTable | None = None
    predictor: AccuracyPredictor | None = None
    fit_report: FitReport | None = None
    solution: Solution | None = None
    plan: PrunePlan | None = None
    verification: Verification | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    collection: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    int8: dict[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> str:
        """What the score of the run's task is called."""
        return score_of(self.config.get("task"))

    @property
    def num_val(self) -> int | None:
        """Images in the val split, if the collection recorded it."""
        return self.collection.get("num_val")


_VALUES: dict[str, type[Value]] = {
    "cost_table": CostTable,
    "predictor": AccuracyPredictor,
    "fit_report": FitReport,
    "solution": Solution,
    "plan": PrunePlan,
    "verification": Verification,
}
_PLAIN = ("config", "base", "seconds", "collection", "environment", "int8")


def read_records(store: Store) -> Records:
    """Read what a run has recorded so far; a stage that was not reached is None or empty.

    Raises:
        StoreError: The store cannot be read.
        ConfigError: A record was written by another version of triaxis.
    """
    stored = {key: store.record(key) for key in (*_PLAIN, "anatomy", *_VALUES)}
    values = {key: kind.from_json(stored[key]) if stored[key] else None for key, kind in _VALUES.items()}
    plain = {key: stored[key] or {} for key in _PLAIN}
    return Records(anatomy=stored["anatomy"], trials=store.trials(), **values, **plain)  # type: ignore[arg-type]
