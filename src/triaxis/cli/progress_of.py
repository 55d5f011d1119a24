"""How far a run is, as plain numbers, from its directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triaxis.stages.listeners import read_progress
from triaxis.store.directory import RunDirectory
from triaxis.store.files import read_json
from triaxis.values import FailedTrial, done_trials

STAGES = (("base", "base"), ("collect", "collection"), ("fit", "predictor"), ("solve", "solution"), ("prune", "verification"))

PARTS_OF = {
    "load": "base",
    "examine": "base",
    "blocks": "collect",
    "cost": "collect",
    "refine": "collect",
    "export": "prune",
    "verify": "prune",
}
"""What is shown as its own stage while it runs, and belongs to one of `STAGES` here."""


def progress_of(run_dir: str | Path) -> dict[str, Any]:
    """Return the state of a run: stages done, trials, failures, what is under way, and the result if there is one.

    Raises:
        StoreError: The directory holds no run.
    """
    run = RunDirectory(run_dir)
    config = run.config()
    with run.read() as store:
        trials = store.trials()
        stages = {name: store.record(key) is not None for name, key in STAGES}
        seconds = store.record("seconds") or {}
    failed = [t for t in trials if isinstance(t, FailedTrial)]
    stages["report"] = run.report_file.exists()
    progress = read_progress(run)
    return {
        "run": str(run.path),
        "model": config.model.name,
        "data": config.data.source,
        "budget": list(config.budget),
        "stages": stages,
        "progress": progress,
        "running": PARTS_OF.get(progress["stage"], progress["stage"]) if progress and progress["is_running"] else None,
        "next": next((name for name, is_done in stages.items() if not is_done), None),
        "trials": {"done": len(done_trials(trials)), "failed": len(failed)},
        "failures": {t.trial_id: t.reason for t in failed},
        "seconds": seconds,
        "summary": read_json(run.summary_file) if run.summary_file.exists() else None,
        "report": str(run.report_file) if run.report_file.exists() else None,
    }
