"""Records -> what the wall time of the trials went to."""

from __future__ import annotations

from triaxis.process.walltime import added
from triaxis.report.records import Records


def part_seconds(records: Records) -> tuple[tuple[str, float, float], ...] | None:
    """Return (part, seconds, share of the trials' time) of the trials together; what no part claims is called other."""
    total = sum(trial.seconds for trial in records.trials)
    parts = added(*(trial.seconds_by_part for trial in records.trials))
    if not parts or total <= 0:
        return None
    parts["other"] = max(0.0, total - sum(parts.values()))
    return tuple((part, seconds, seconds / total) for part, seconds in parts.items())
