"""The numbers of a finished run, as ``summary.json`` holds them."""

from __future__ import annotations

from typing import Any

from triaxis.errors import StoreError
from triaxis.store.base import Store
from triaxis.values import Verification
from triaxis.values.score import score_of


def summarise(store: Store) -> dict[str, Any]:
    """Return base against compressed, the budget, the solution, the predictor and what it all took.

    Raises:
        StoreError: The run has not been verified yet.
    """
    records = {
        key: store.record(key) for key in ("verification", "solution", "predictor", "fit_report", "collection", "seconds", "environment")
    }
    missing = [key for key, record in records.items() if record is None]
    if missing:
        raise StoreError(f"A summary needs a finished run, but {', '.join(missing)} are not stored yet: run `triaxis run` to the end.")
    verification, solution = records["verification"], records["solution"]
    found = Verification.from_json(verification)
    budget = next(b for b in solution["budgets"] if b["metric"] == solution["binding"])
    return {
        "schema": 1,
        "target": (store.record("config") or {}).get("fit", {}).get("target"),
        "base": verification["base"],
        "compressed": verification["compressed"],
        "budget": {key: budget[key] for key in ("metric", "limit", "fraction")},
        "budgets": solution["budgets"],
        "is_within_budget": found.is_within_budget,
        "checks": [check.to_json() for check in found.checks],
        "solution": {
            **solution["ratios"],
            "blocks": solution["blocks"],
            "side_px": solution["side_px"],
            "predicted_accuracy": solution["predicted_accuracy"],
            "interval": solution["interval"],
            "costs": solution["costs"],
            "binding": solution["binding"],
            "status": solution["status"],
        },
        "predictor": {
            "kind": records["predictor"].get("kind"),
            "degree": records["predictor"].get("degree"),
            "rank": records["predictor"].get("rank"),
            "leave_one_out_mae": records["fit_report"].get("leave_one_out_mae"),
        },
        "prediction_error": verification["prediction_error"],
        "collection_cost_ratio": records["collection"]["cost_ratio"],
        "collection_time_ratio": records["collection"].get("time_ratio"),
        "num_trials": records["collection"]["num_trials"],
        "seconds": records["seconds"],
        "seconds_by_part": {
            **(store.record("seconds_by_part") or {}),
            "trials": records["collection"].get("seconds_by_part", {}),
        },
        "environment": records["environment"],
        "cost_model": _cost_model(store.record("cost_table") or {}),
        **({"score": score} if (score := score_of((store.record("config") or {}).get("task"))) != "accuracy" else {}),
        **({"int8": int8} if (int8 := store.record("int8")) else {}),
    }


def _cost_model(table: dict[str, Any]) -> dict[str, Any]:
    """Return how far each measured metric is from cuts that were not in its sample."""
    spread = table.get("spread") or {}
    return {
        metric: {"median_error": median, "error_90": tail, "spread": spread.get(metric)}
        for metric, (median, tail) in (table.get("errors") or {}).items()
    }
