"""Numbers as tables on the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from triaxis.cli.frame import out
from triaxis.progress import Step, roughly
from triaxis.values import FitReport, Solution, metric_spec
from triaxis.values.score import said

if TYPE_CHECKING:
    from triaxis.stages.plan import Forecast

BAR_WIDTH = 24


def percent(ratio: float | None) -> str:
    """Return a number in [0, 1] as per cent, or a dash."""
    return "-" if ratio is None else f"{100 * ratio:.2f} %"


def cost(number: float | None, metric: str) -> str:
    """Return a cost with its unit and three digits."""
    if number is None:
        return "-"
    unit = "B" if metric.endswith("bytes") else metric_spec(metric).unit
    if unit not in ("", "B"):
        return f"{number:.3g} {unit}"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.4g} {prefix}{unit}"
    return f"{number:.4g} {unit}".strip()


def summary(run_dir: str | Path) -> dict[str, Any]:
    """Print the base model beside the compressed one, from summary.json, and where the report is; return the numbers."""
    # Imported here, so that `--help` does not wait for what reads a configuration.
    from triaxis.store.directory import RunDirectory
    from triaxis.store.files import read_json

    run = RunDirectory(run_dir)
    plain = read_json(run.summary_file)
    out.print(summary_table(plain))
    if "int8" in plain:
        out.print(int8_table(plain))
    out.print(f"model:  {escape(str(run.compressed))}\nreport: {escape(str(run.report_file))}", soft_wrap=True)
    return plain


def forecast(found: Forecast) -> None:
    """Print what a run trains: networks, images, effort in shares of base training, and an estimate of the time."""
    table = Table("", "networks", "images", "images x MACs", "of base training", "about")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in found.stages:
        networks = str(stage.networks) if stage.networks else "-"
        share = f"{found.share(stage):.2f}"
        table.add_row(stage.name, networks, f"{stage.images:,}", cost(stage.effort, "macs"), share, roughly(stage.seconds))
    out.print(table)
    out.print(f"about {roughly(found.seconds)} of training on this machine; measuring, exporting and reading data come on top")


def summary_table(plain: dict[str, Any]) -> Table:
    """Return base against compressed: accuracies, costs, latency at each batch, file size."""
    base, compressed = plain["base"], plain["compressed"]
    table = Table("", "base", "compressed", "change")
    for column in table.columns[1:]:
        column.justify = "right"
    kind = "balanced " if plain.get("target") == "balanced_accuracy" else ""
    for name in ("val_accuracy", "test_accuracy"):
        before, after = base.get(name), compressed.get(name)
        change = "-" if before is None or after is None else f"{100 * (after - before):+.2f} points"
        text = said(kind + name.replace("_", " "), plain.get("score", "accuracy"))
        table.add_row(text, percent(before), percent(after), change)
    for label, metric in (("MACs", "macs"), ("params", "params"), ("file size", "file_bytes")):
        table.add_row(
            label, cost(base.get(metric), metric), cost(compressed.get(metric), metric), _less(base.get(metric), compressed.get(metric))
        )
    for batch, before in base["latency_ms"].items():
        after = compressed["latency_ms"].get(batch)
        change = f"{before / after:.2f} x faster" if after else "-"
        table.add_row(f"latency, batch {batch}", cost(before, "latency_ms"), cost(after, "latency_ms"), change)
    for check in plain.get("checks", ()):
        name = metric_spec(check["budget"]["metric"]).title
        share = f"{100 * check['share']:.1f} %"
        if check["low"] < check["high"]:
            share += f" ± {50 * (check['high'] - check['low']):.1f}"
        table.add_row(f"{name} of the base's", f"{100 * check['limit_share']:.1f} %", share, "budget, measured")
    return table


def int8_table(plain: dict[str, Any]) -> Table:
    """Return the compressed model in fp32 against itself in INT8."""
    found, compressed = plain["int8"], plain["compressed"]
    table = Table(f"{found['runtime']}, batch {found['batch']}", "fp32", "int8", "change")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, before, after in (
        ("val accuracy", found["val_accuracy_fp32"], found["val_accuracy"]),
        ("test accuracy", compressed.get("test_accuracy"), found["test_accuracy"]),
    ):
        change = "-" if before is None else f"{100 * (after - before):+.2f} points"
        table.add_row(said(name, plain.get("score", "accuracy")), percent(before), percent(after), change)
    table.add_row(
        "latency",
        cost(found["latency_ms_fp32"], "latency_ms"),
        cost(found["latency_ms"], "latency_ms"),
        f"{1 / found['latency_ratio']:.2f} x faster",
    )
    size = compressed.get("file_bytes")
    table.add_row("file size", cost(size, "file_bytes"), cost(found["file_bytes"], "file_bytes"), _less(size, found["file_bytes"]))
    table.add_row("layers in fp32", "all", escape(", ".join(found["kept_in_fp32"]) or "none"), "")
    return table


def _less(before: float | None, after: float | None) -> str:
    return "-" if not before or after is None else f"{100 * (after / before - 1):+.1f} %"


def fit_report(report: FitReport, score: str = "accuracy") -> None:
    """Print how well the accuracy predictor describes its points."""
    table = Table(f"{score} predictor", report.kind, title_justify="left")
    table.add_row("degree, rank", f"{report.degree}, {report.rank}")
    table.add_row("points (distinct)", f"{report.num_points} ({report.num_distinct})")
    table.add_row("RMSE", f"{100 * report.rmse:.2f} points")
    table.add_row("leave-one-out MAE", f"{100 * report.leave_one_out_mae:.2f} points")
    table.add_row("condition number", f"{report.condition_number:.3g}")
    for name, mae in report.tried.items():
        table.add_row(f"tried: {escape(name)}", f"{100 * mae:.2f} points")
    out.print(table)


def solution(found: Solution, score: str = "accuracy") -> None:
    """Print the best cut within the budgets."""
    table = Table("best cut", "")
    table.add_row("depth", f"{found.ratios.depth:.3f}  ({found.blocks} blocks)")
    table.add_row("width", f"{found.ratios.width:.3f}  (asked {found.width:.3f})")
    table.add_row("resolution", f"{found.ratios.resolution:.3f}  ({found.side_px} px)")
    table.add_row(
        f"predicted {score}", f"{percent(found.predicted_accuracy)}  (90 %: {percent(found.interval[0])} to {percent(found.interval[1])})"
    )
    for budget in found.budgets:
        binds = ", binds" if budget.metric == found.binding and found.status == "optimal" else ""
        spent = cost(found.costs[budget.metric], budget.metric)
        table.add_row(budget.metric, f"{spent} of {cost(budget.limit, budget.metric)}{binds}")
    out.print(table)


def frontier(solutions: Sequence[Solution], metric: str, score: str = "accuracy") -> None:
    """Print the best cut at each budget, with a bar for its accuracy."""
    distinct = list({found.ratios: found for found in solutions}.values())
    low = min(found.predicted_accuracy for found in distinct)
    high = max(found.predicted_accuracy for found in distinct)
    base = max(found.budgets[0].limit / (found.budgets[0].fraction or 1) for found in distinct)
    table = Table(f"{metric}", "of base", "depth", "width", "side px", score, "")
    for found in sorted(distinct, key=lambda found: -found.costs[metric]):
        share = (found.predicted_accuracy - low) / (high - low) if high > low else 1.0
        table.add_row(
            cost(found.costs[metric], metric),
            f"{100 * found.costs[metric] / base:.1f} %",
            f"{found.ratios.depth:.2f}",
            f"{found.ratios.width:.2f}",
            str(found.side_px),
            percent(found.predicted_accuracy),
            "━" * max(1, round(BAR_WIDTH * share)),
        )
    out.print(table)


def status(found: dict[str, Any]) -> None:
    """Print how far a run is."""
    table = Table("run", escape(found["run"]))
    table.add_row("model, data", escape(f"{found['model']}, {found['data']}"))
    table.add_row("budget", ", ".join(found["budget"]))
    for name, is_done in found["stages"].items():
        seconds = found["seconds"].get(name)
        state = "running" if name == found["running"] else "done" if is_done else "to do"
        table.add_row(name, state + (f", {seconds:.1f} s" if seconds else ""))
    for name, words in now(found["progress"]):
        table.add_row(name, escape(words))
    table.add_row("trials", f"{found['trials']['done']} done, {found['trials']['failed']} failed")
    for trial_id, reason in found["failures"].items():
        table.add_row(f"failed {trial_id[:8]}", escape(reason))
    out.print(table)
    if found["summary"]:
        out.print(summary_table(found["summary"]))


def now(progress: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return rows on what is under way, or on what was when the process ended without a word."""
    if progress is None:
        return []
    step = Step.from_json(progress)
    doing = ", ".join((f"{step.stage} {step.share:.0%}", *step.details))
    ago = roughly(max(0.0, time.time() - progress["time"]))
    if not progress["is_running"]:
        return [("stopped", f"{ago} ago, process {progress['pid']} on {progress['host']} is gone; it was at {doing}")]
    left = ", ".join(step.left) or "not known yet"
    under_way = [(f"trial {trial.trial}", f"{trial.what}, {trial.share:.0%} on {trial.place}") for trial in step.running]
    return [("now", f"{doing} ({ago} ago, process {progress['pid']})"), *under_way, ("time left", left)]


def rows(header: Sequence[str], body: Sequence[Sequence[object]]) -> None:
    """Print any small table."""
    table = Table(*(escape(name) for name in header))
    for row in body:
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)
