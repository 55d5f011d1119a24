"""Records of the effort benchmark -> the results file and its tables. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rivals.pairs import ARMS
from rivals.profiles import AT, Profile
from rivals.results import Average, Difference, budget_order, paired
from rivals.tables import difference, percent
from triaxis.store.directory import RunDirectory

LABELS = {
    "triaxis": "triaxis, its collection included",
    "equal_split": "equal split",
    "width_l2": "width: torch-pruning, uniform",
    "width_l2_global": "width: torch-pruning, global",
    "depth": "depth only",
    "resolution": "resolution only",
    "random_cut": "a random cut",
    "scratch": "triaxis's shape from scratch",
}
NOT_SHOWN = ("cut", "interval")


def gather(pair: Profile, folders: Iterable[Path]) -> dict[str, Any]:
    """Return the results of a pair from its run directories, one for each seed; unfinished ones give what they have."""
    records: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}
    for folder in folders:
        directory = RunDirectory(folder)
        with directory.read() as store:
            found = [store.record(f"arm:{key}") for key in store.record("arms") or []]
            machine = store.record("environment") or machine
            fields = {key: store.record(key) for key in ("base", "elastic", "seconds")}
            seeds.append({"seed": directory.config().seed, **fields})
        # A record without its effort is of an arm whose process was stopped just before the end; it is run again.
        records += [{k: v for k, v in record.items() if k not in NOT_SHOWN} for record in found if record and "effort" in record]
    return {
        "schema": 1,
        "pair": pair.name,
        "title": pair.title,
        "machine": {k: machine.get(k) for k in ("device", "threads", "mode", "versions")},
        "seeds": seeds,
        "records": sorted(records, key=lambda r: (r["effort"], budget_order(r["budget"]), order_of(r["arm"]), r["seed"])),
    }


def order_of(arm: str) -> tuple[int, str]:
    """Return what arms are sorted by: as they are named, those with a peak rate of their own after the same at the usual one."""
    return ARMS.index(arm.partition(AT)[0]), arm


def label(arm: str) -> str:
    """Return an arm's name for people."""
    name, _, rate = arm.partition(AT)
    return f"{LABELS[name]}, peak rate {rate}" if rate else LABELS[name]


def holm(ps: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return p-values corrected for being many (Holm 1979); what has none keeps none."""
    known = sorted((p, name) for name, p in ps.items() if p is not None)
    corrected: dict[str, float | None] = dict.fromkeys(ps)
    largest = 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[name] = largest
    return corrected


def markdown(results: dict[str, Any]) -> str:
    """Return the page: one table for each effort and budget, triaxis's lead paired by seed, and what is missing."""
    records, seeds = results["records"], [entry["seed"] for entry in results["seeds"]]
    parts = [
        f"# {results['title']}: equal effort, the collection included",
        f"Pair `{results['pair']}`; seeds: {', '.join(map(str, seeds)) or 'none'}. Effort is all training after the base model's, "
        "in shares of base training (images x MACs).",
    ]
    if not seeds or not records:
        return "\n\n".join([*parts, "Nothing is measured yet."]) + "\n"
    cases = sorted({(r["effort"], r["budget"]) for r in records}, key=lambda case: (case[0], budget_order(case[1])))
    parts += [_table([r for r in records if (r["effort"], r["budget"]) == case], *case) for case in cases]
    if len(seeds) < 3:
        parts.append(f"**{len(seeds)} of at least 3 seeds: a direction, not a proof.**")
    return "\n\n".join(parts) + "\n"


def _table(records: Sequence[Mapping[str, Any]], effort: float, budget: str) -> str:
    ours = _by_seed(records, "triaxis")
    arms = sorted({*ARMS, *(r["arm"] for r in records)}, key=order_of)
    leads: dict[str, Difference | None] = {arm: paired(ours, _by_seed(records, arm)) for arm in arms if arm != "triaxis"}
    corrected = holm({arm: lead.p if lead else None for arm, lead in leads.items()})
    lines = [
        f"## Effort {effort:g}, {budget}",
        "",
        "| arm | seeds | val, % | test, % | triaxis's lead, points | p, corrected (Holm) | collection: effort, time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm in arms:
        found = [r for r in records if r["arm"] == arm and r["state"] == "done"]
        if not found:
            refused = any(r["arm"] == arm and r["state"] == "infeasible" for r in records)
            lines.append(f"| {label(arm)} | - | {'cannot' if refused else 'missing'} | - | - | - | - |")
            continue
        val, test = (Average.of([r[key] for r in found if r.get(key) is not None]) for key in ("val_accuracy", "test_accuracy"))
        lead, p = leads.get(arm), corrected.get(arm)
        spent = [Average.of([r[key] for r in found if r.get(key) is not None]) for key in ("collection_effort", "collection_time")]
        shown = ", ".join(f"{average.mean:.2f}" if average else "-" for average in spent)
        row = [label(arm), str(len(found)), percent(val), percent(test), difference(lead), "-" if p is None else f"{p:.3f}", shown]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _by_seed(records: Sequence[Mapping[str, Any]], arm: str) -> dict[int, float]:
    """Return an arm's accuracy by seed: on test where every seed has it, else on val."""
    found = [r for r in records if r["arm"] == arm and r["state"] == "done"]
    key = "test_accuracy" if found and all(r.get("test_accuracy") is not None for r in found) else "val_accuracy"
    return {r["seed"]: r[key] for r in found}
