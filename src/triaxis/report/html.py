"""Records -> one self-contained HTML page that opens offline: its drawings and its few lines of script are inside."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from markupsafe import escape

from triaxis.report import figures, int8, plots, scores, times, words
from triaxis.report.draw import Chart
from triaxis.report.network import network
from triaxis.report.records import Records
from triaxis.report.steps import Steps, budget_steps
from triaxis.report.templates import templates
from triaxis.store.files import write_text
from triaxis.values import FailedTrial, TrialResult, metric_spec
from triaxis.values.score import said

MISSING = {
    "comparison": "The compressed model is not measured yet. Next: triaxis prune RUN.",
    "frontier": "The accuracy predictor is not fitted yet. Next: triaxis fit RUN.",
    "axes": "There is no fitted trial yet. Next: triaxis collect RUN, then triaxis fit RUN.",
    "prediction": "There is no fitted trial yet. Next: triaxis collect RUN, then triaxis fit RUN.",
    "removal": "Nothing is cut yet. Next: triaxis prune RUN.",
    "seconds": "No stage is finished yet.",
}


def write_report(records: Records, path: str | Path) -> Path:
    """Write the report as one HTML file, whole or not at all; return its path.

    Raises:
        StoreError: The file cannot be written.
    """
    path = Path(path)
    return write_text(path, render(records, title=path.resolve().parent.name))


def render(records: Records, title: str) -> str:
    """Return the page's text; a section whose records are missing says which command makes them."""
    found = figures.frontier_figure(records)
    page = {
        "title": title,
        "version": version("triaxis"),
        "headline": words.headline(records),
        "lead": words.lead(records),
        "missed": words.missed(records),
        "tiles": _tiles(records),
        "comparison": list(_comparison(records)),
        "score": scores.score_text(records),
        "int8": list(int8.comparison(records)),
        "int8_kept": int8.kept(records),
        "advice": words.advice(found, figures.axis_shares(records), records),
        "frontier": _frontier(found, records),
        "axes": list(_axes(records)),
        "prediction": _prediction(records),
        "removal": figures.removal(records),
        "network": network(records),
        "seconds": [(*row, "chosen") for row in figures.stage_seconds(records) or ()],
        "parts": [(*row, "chosen") for row in times.part_seconds(records) or ()],
        "trial_seconds": _trial_seconds(records),
        "trials": [trial_row(trial) for trial in records.trials],
        "failed": [t for t in records.trials if isinstance(t, FailedTrial)],
        "collection": words.collection_text(records),
        "config": escape(yaml.safe_dump(records.config, sort_keys=False, allow_unicode=True)) if records.config else "",
        "environment": _environment(records),
        "missing": MISSING,
        "words": words,
    }
    return said(templates().get_template("page.html").render(page), records.score)


def _tiles(records: Records) -> list[tuple[str, str, str]]:
    """The three numbers of the head: what changed, the amount, from and to."""
    wanted = [row for row in figures.comparison(records) or () if row.name in ("MACs", "file") or row.kind == "latency"]
    told = f"latency, batch {words.told_batch(records)}"
    latency = [row for row in wanted if row.name == told]
    rows = [*wanted[:1], *latency, *wanted[-1:]]
    sizes = [f"{words.quantity(row.base, row.kind)} → {words.quantity(row.compressed, row.kind)}" for row in rows]
    tiles = [(row.name, words.change(row), size) for row, size in zip(rows, sizes, strict=True)]
    accuracy = next(iter(figures.comparison(records) or ()), None)
    if accuracy:
        base = f"base {words.percent(accuracy.base)}, {words.change(accuracy)}"
        tiles.insert(0, (accuracy.name, words.percent(accuracy.compressed), base))
    return tiles


def _comparison(records: Records) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Rows of text: name, base, how sure, compressed, how sure, change."""
    for row in figures.comparison(records) or ():
        sure = [words.interval(i) for i in (row.base_interval, row.compressed_interval)]
        if row.kind == "latency":
            sure = [words.spread(s) if s is not None else "" for s in (row.base_spread, row.compressed_spread)]
        yield row.name, words.quantity(row.base, row.kind), sure[0], words.quantity(row.compressed, row.kind), sure[1], words.change(row)
    found = records.verification
    if found is not None:
        fewer = found.base.macs / found.compressed.macs
        for batch in (b for b in found.base.latency_ms if b in found.compressed.latency_ms):
            yield f"speed-up / MACs reduction, batch {batch}", "", "", "", "", f"{words.speedup(found, batch) / fewer:.2f}"


def _frontier(found: figures.Frontier | None, records: Records) -> dict[str, Any] | None:
    if found is None:
        return None
    rows: list[tuple[str, figures.CostPoint | None]] = [("chosen cut", found.chosen)] if found.chosen else []
    rows += [(f"{rival.name} (extrapolated)" if rival.is_extrapolated else rival.name, rival.point) for rival in found.rivals]
    table = [_cut_row(name, point, found.metric) for name, point in rows]
    steps = budget_steps(records, found)
    chart = plots.frontier_plot(found, moving=steps.place(steps.start))
    return {
        "chart": chart,
        "rows": table,
        "found": found,
        "at": steps.start,
        "start": steps.said(steps.start),
        "metrics": [(metric, metric_spec(metric).title) for metric in steps.metrics],
        "steps": _placed(steps, chart),
    }


def _placed(steps: Steps, chart: Chart) -> list[dict[str, Any]]:
    """Return the slider's steps with their places on the chart, in per cent."""
    places = [steps.place(number) for number in range(len(steps.solutions))]
    return [
        plain | {"left": chart.left(100 * fraction), "top": chart.top(100 * accuracy)}
        for plain, (fraction, accuracy) in zip(steps.to_json(), places, strict=True)
    ]


def _cut_row(name: str, point: figures.CostPoint | None, metric: str) -> tuple[str, ...]:
    if point is None:
        return name, "–", "–", "–", "cannot meet this budget", "–", "–"
    ratios = [f"{ratio:.2f}" for ratio in point.ratios.as_tuple()]
    spent = f"{words.cost(point.cost, metric)} ({words.percent(point.fraction)})"
    return name, *ratios, spent, words.percent(point.accuracy), words.interval((point.low, point.high))


def _axes(records: Records) -> Iterator[dict[str, Any]]:
    curves = figures.axis_curves(records) or ()
    trials = [bound for c in curves for t in c.trials for bound in (t.measured_interval or (t.measured, t.measured))]
    values = [*trials, *(bound for c in curves for bound in (*c.low, *c.high))]
    for curve in curves:
        span = (min(values) - 0.003, min(max(values) + 0.003, 1.002))
        yield {"chart": plots.axis_plot(curve, span), "curve": curve, "said": words.rise_text(curve)}


def _prediction(records: Records) -> dict[str, Any] | None:
    estimates, verified = figures.predicted_measured(records), records.verification
    if not estimates:
        return None
    delivered = (verified.predicted_accuracy, verified.compressed.val_accuracy) if verified else None
    return {"chart": plots.prediction_plot(estimates, delivered), "said": words.prediction_text(records)}


def _trial_seconds(records: Records) -> list[tuple[str, float, float, str]]:
    """Rows of the time of each trial: axis and keep ratio, seconds, share of the longest, ink."""
    timed = [trial for trial in records.trials if trial.seconds > 0]
    longest = max((trial.seconds for trial in timed), default=1.0)
    return [(_trial_name(trial), trial.seconds, trial.seconds / longest, trial.spec.axis) for trial in timed]


def _trial_name(trial: TrialResult) -> str:
    axis, target = trial.spec.axis, trial.spec.target
    cut = {"base": "", "joint": " ".join(f"{ratio:.2f}" for ratio in target.as_tuple())}
    return f"{axis} {cut[axis] if axis in cut else f'{getattr(target, axis):.2f}'}".strip()


def trial_row(trial: TrialResult) -> tuple[str, ...]:
    """Return a trial as text: id, axis, val accuracy, keep ratios (achieved, or asked for if it failed), MACs, time."""
    if isinstance(trial, FailedTrial):
        accuracy, ratios, macs = "failed", trial.spec.target, ""
    else:
        accuracy, ratios, macs = words.percent(trial.val_accuracy, 2), trial.achieved, words.count(trial.macs)
    kept = [f"{ratio:.3f}" for ratio in ratios.as_tuple()]
    return trial.trial_id[:8], trial.spec.axis, accuracy, *kept, macs, words.duration(trial.seconds)


def _environment(records: Records) -> list[tuple[str, str]]:
    found = {str(key): value for key, value in records.environment.items()}
    if records.verification:
        found = {"device": records.verification.device, "threads": records.verification.threads} | found
    return [(key.replace("_", " "), _flat(value)) for key, value in found.items()]


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_flat(part)}" for key, part in value.items() if key != "schema")
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_flat, value)) if isinstance(value, list | tuple) else str(value)
