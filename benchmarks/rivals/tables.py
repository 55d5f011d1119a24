"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rivals.profiles import Profile
from rivals.results import Average, Difference, arms_at, average, budgets_of, by_seed, label, paired

DASH = "-"


def markdown(results: dict[str, Any], profile: Profile, command: str) -> str:
    """Return the page: what was run, one table for each budget, what collection cost, what was predicted."""
    machine, seeds = results["machine"], [entry["seed"] for entry in results["seeds"]]
    versions = ", ".join(f"{name} {number}" for name, number in (results["versions"] or {}).items())
    parts = [
        f"# {results['title']}: all three axes beside one axis and beside the peers",
        f"Made by `{command}`. The protocol is in [README.md](../README.md); every record is in `{profile.family}-{profile.name}.json`.",
        f"Machine: {machine['device']}, {machine['threads']} threads. Versions: {versions}. Seeds: {', '.join(map(str, seeds))}.",
        f"![Accuracy against MACs]({profile.family}-{profile.name}.svg)",
        _base(results),
        *(_budget(results, budget) for budget in budgets_of(results)),
        _prediction(results),
        _published(results, profile),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(found: Average | None) -> str:
    """Return mean and spread in per cent; accuracies to two decimals."""
    if found is None:
        return DASH
    return f"{100 * found.mean:.2f}" + (f" ± {100 * found.spread:.2f}" if found.spread is not None else "")


def number(found: Average | None) -> str:
    """Return a mean to two decimals."""
    return DASH if found is None else f"{found.mean:.2f}"


def difference(found: Difference | None) -> str:
    """Return triaxis's lead in points, its spread, and p."""
    if found is None:
        return DASH
    spread = f" ± {100 * found.spread:.2f}" if found.spread is not None else ""
    return f"{100 * found.mean:+.2f}{spread}" + (f" (p = {found.p:.3f})" if found.p is not None else "")


def _base(results: dict[str, Any]) -> str:
    """Return the base models' accuracies and what the collections cost beside their training."""
    rows = []
    for entry in results["seeds"]:
        base, collection = entry["base"], entry["collection"]
        shown = [base.get("val_accuracy"), base.get("test_accuracy"), collection.get("cost_ratio")]
        rows.append(
            [str(entry["seed"]), *(f"{100 * x:.2f}" if x is not None else DASH for x in shown), str(collection.get("num_trials", DASH))]
        )
    return "## Base model and collection\n\n" + _table(
        ["seed", "base val %", "base test %", "collection, % of base training's images x MACs", "trials"], rows
    )


def _budget(results: dict[str, Any], budget: str) -> str:
    ours = by_seed(results, budget, "triaxis", "test_accuracy")
    rows = [_row(results, budget, arm, ours) for arm in arms_at(results, budget)]
    onnx = any("onnxruntime_speedup_batch1" in r for r in results["records"])
    head = ["arm", "test %", "val %", "MACs %", "triaxis leads by, points", "speed-up at batch 1", "batch 64", "per MACs, batch 64"]
    head += ["ONNX at batch 1", "batch 64"] if onnx else []
    head += ["training, of base's"]
    if any(r.get("best_on_test") for r in results["records"]):
        head += ["best epoch on test %"]
    return f"## {budget}\n\n" + _table(head, [row[: len(head)] for row in (_fit(row, onnx) for row in rows)])


def _fit(row: list[str], has_onnx: bool) -> list[str]:
    return row if has_onnx else [*row[:8], *row[10:]]


def _row(results: dict[str, Any], budget: str, arm: str, ours: dict[int, float]) -> list[str]:
    def mean(field: str) -> Average | None:
        return average(results, budget, arm, field)

    name = f"**{label(arm)}**" if arm == "triaxis" else label(arm)
    smallest = mean("smallest_fraction")
    if smallest is not None and mean("val_accuracy") is None:
        return [name, f"cannot: at least {smallest.mean:.1%} of the base's cost", *[""] * 10]
    lead = DASH if arm == "triaxis" else difference(paired(ours, by_seed(results, budget, arm, "test_accuracy")))
    macs = mean("macs_fraction")
    speeds = ("speedup_batch1", "speedup_batch64", "speedup_per_macs_batch64", "onnxruntime_speedup_batch1", "onnxruntime_speedup_batch64")
    return [
        name,
        percent(mean("test_accuracy")),
        percent(mean("val_accuracy")),
        f"{100 * macs.mean:.1f}" if macs else DASH,
        lead,
        *(number(mean(field)) for field in speeds),
        number(mean("train_cost")),
        percent(mean("best_on_test")),
    ]


def _prediction(results: dict[str, Any]) -> str:
    rows = []
    for budget in budgets_of(results):
        errors = by_seed(results, budget, "triaxis", "prediction_error")
        if errors:
            expected, measured = (average(results, budget, "triaxis", field) for field in ("predicted_accuracy", "val_accuracy"))
            rows.append(
                [budget, percent(expected), percent(measured), percent(Average.of(list(errors.values()))), _shapes(results, budget)]
            )
    if not rows:
        return ""
    return "## What triaxis predicted\n\n" + _table(
        ["budget", "predicted val %", "measured val %", "measured minus predicted, points", "keep ratios (d, w, r) by seed"], rows
    )


def _shapes(results: dict[str, Any], budget: str) -> str:
    found = by_seed(results, budget, "triaxis", "ratios")
    return "; ".join("({depth:.2f}, {width:.2f}, {resolution:.2f})".format(**ratios) for ratios in found.values())  # type: ignore[arg-type]


def _published(results: dict[str, Any], profile: Profile) -> str:
    if not profile.published:
        return ""
    rows = [[name, f"{100 * accuracy:.2f}", f"{times:.2f}"] for name, accuracy, times in profile.published]
    for budget in budgets_of(results):
        found, macs = average(results, budget, "triaxis", "best_on_test"), average(results, budget, "triaxis", "macs_fraction")
        if found and macs:
            rows.append([f"triaxis at {budget}", percent(found), f"{1 / macs.mean:.2f}"])
    note = "These take the best epoch on the test set, so for triaxis that column stands here too; nothing was selected by it."
    return f"## Beside published figures\n\n{note}\n\n" + _table(["method", "best epoch on test %", "MACs reduction"], rows)
