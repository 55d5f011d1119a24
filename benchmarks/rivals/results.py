"""Records of all seeds -> the results file and its tables. Reads run directories; needs no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from rivals.profiles import PAID, Profile
from triaxis.store.directory import RunDirectory

LABELS = {
    "triaxis": "triaxis, all three axes",
    "width_l2": "width: group L2, uniform",
    "width_l2_global": "width: group L2, global",
    "width_bn": "width: batch-norm scale, global",
    "width_group_norm": "width: group norm, sparse training",
    "width": "width only, triaxis's surgery",
    "depth": "depth only",
    "resolution": "resolution only",
    "equal_split": "equal split",
    "compound": "compound, backwards",
    "scratch": "from scratch, same epochs",
    "scratch_same_macs": "from scratch, same training MACs",
}
NOT_SHOWN = ("cut", "interval")


def label(arm: str) -> str:
    """Return an arm's name for people."""
    return LABELS[arm.removesuffix(PAID)] + (", with the collection's effort" if arm.endswith(PAID) else "")


def gather(profile: Profile, folders: Iterable[Path]) -> dict[str, Any]:
    """Return the results of a profile from its run directories, one for each seed; unfinished ones give what they have.

    Raises:
        StoreError: A folder holds no run.
    """
    records: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}
    config: dict[str, Any] = {"data": {"source": ""}}
    for folder in folders:
        directory = RunDirectory(folder)
        with directory.read() as store:
            found = [store.record(f"arm:{key}") for key in store.record("arms") or []]
            base, collection = store.record("base") or {}, store.record("collection") or {}
            seeds.append(
                {
                    "seed": directory.config().seed,
                    "base": {**base, "test_accuracy": store.record("base_test")},
                    "collection": collection,
                    "seconds": store.record("seconds"),
                }
            )
            machine, config = store.record("environment") or machine, directory.config().to_plain()
        records += [{k: v for k, v in record.items() if k not in NOT_SHOWN} for record in found]
    config["data"]["source"] = config["data"]["source"].partition(":")[0]
    return {
        "schema": 1,
        "profile": profile.name,
        "family": profile.family,
        "title": profile.title,
        "machine": {k: machine.get(k) for k in ("device", "threads", "mode")},
        "versions": machine.get("versions"),
        "config": {**config, "seed": [s["seed"] for s in seeds]},
        "seeds": seeds,
        "records": sorted(records, key=lambda r: (budget_order(r["budget"]), arm_order(r["arm"]), r["seed"])),
    }


def budget_order(text: str) -> tuple[str, float]:
    """Return a sort key: MACs before latency, large before small."""
    metric, _, share = text.partition("=")
    return ("" if metric == "macs" else metric, -float(share.rstrip("%")))


def arm_order(arm: str) -> int:
    """Return an arm's place in the tables."""
    return list(LABELS).index(arm.removesuffix(PAID)) + (len(LABELS) if arm.endswith(PAID) else 0)


@dataclass(frozen=True)
class Average:
    """Mean and standard deviation (None for one value) over `num` seeds."""

    mean: float
    spread: float | None
    num: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Average | None:
        """Return the average of some values; None where there are none."""
        if not values:
            return None
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Difference:
    """Triaxis minus an arm, over the seeds that have both: mean, its standard deviation, and the paired t-test's p."""

    mean: float
    spread: float | None
    p: float | None


def paired(ours: dict[int, float], theirs: dict[int, float]) -> Difference | None:
    """Compare accuracies by seed; None without a common seed.

    The test is Student's two-sided one on the differences; p is None for fewer than two, or where all are equal.
    """
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    found = Average.of(differences)
    if found is None:
        return None
    if found.spread is None or found.spread < 1e-12:
        return Difference(found.mean, found.spread, None)
    p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return Difference(found.mean, found.spread, p if math.isfinite(p) else None)


def by_seed(results: dict[str, Any], budget: str, arm: str, field: str) -> dict[int, float]:
    """Return one field of one arm at one budget, by seed, where it is known."""
    chosen = [r for r in results["records"] if r["budget"] == budget and r["arm"] == arm]
    return {r["seed"]: r[field] for r in chosen if r.get(field) is not None}


def average(results: dict[str, Any], budget: str, arm: str, field: str) -> Average | None:
    """Return the average over seeds of one field of one arm at one budget."""
    return Average.of(list(by_seed(results, budget, arm, field).values()))


def arms_at(results: dict[str, Any], budget: str) -> list[str]:
    """Return the arms that have a record at a budget, in the order of the tables."""
    return sorted({r["arm"] for r in results["records"] if r["budget"] == budget}, key=arm_order)


def budgets_of(results: dict[str, Any]) -> list[str]:
    """Return the budgets that have records, MACs first."""
    return sorted({r["budget"] for r in results["records"]}, key=budget_order)
