"""A run that is killed in every stage ends with the numbers of an undisturbed one, and trains nothing twice."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import runpy
import signal
import sqlite3
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed.py")
MOMENTS = [("base", 0.5), ("cost", 0.0), ("collect", 0.3), ("collect", 0.8), ("prune", 0.6), ("export", 0.0), ("verify", 0.5)]


def kill_at(config: Path, out: Path, stage: str, share: float) -> None:
    # A server that has imported torch and nothing else: forks of it start at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["triaxis.stages.pipeline"])
    words = {"CONFIG": str(config), "OUT": str(out), "STAGE": stage, "SHARE": share}
    victim = context.Process(target=runpy.run_path, args=(str(SCRIPT),), kwargs={"init_globals": words})
    victim.start()
    victim.join(240)
    assert victim.exitcode == -signal.SIGKILL, (stage, victim.exitcode)


def rows(out: Path) -> dict[str, str]:
    store = sqlite3.connect(f"file:{out / 'store.sqlite'}?mode=ro", uri=True)
    try:
        names = [row[0] for row in store.execute("select name from sqlite_master where type = 'table' and name like 'trial%'")]
        columns = [row[1] for row in store.execute(f"pragma table_info({names[0]})")]
        return {str(row[columns.index("trial_id")]): json.dumps(row, default=str) for row in store.execute(f"select * from {names[0]}")}
    finally:
        store.close()


def numbers(out: Path) -> dict:
    """What must not depend on when the run was interrupted: all but times."""
    summary = json.loads((out / "summary.json").read_text())
    for side in ("base", "compressed"):
        for key in ("latency_ms", "latency_spread_ms"):
            del summary[side][key]
    for key in ("seconds", "seconds_by_part", "collection_time_ratio", "environment", "cost_model"):
        del summary[key]
    del summary["solution"]["costs"]["latency_ms"]
    return summary


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, tiny_file, finished, command) -> tuple[Path, list[dict[str, str]]]:
    """A run killed once at each moment, then let through; and the trials in its store after each kill."""
    out = tmp_path_factory.mktemp("runs") / "killed"
    seen = []
    for stage, share in MOMENTS:
        kill_at(tiny_file, out, stage, share)
        seen.append(rows(out))
    done = command("run", tiny_file, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, [*seen, rows(out)]


def test_the_numbers_are_those_of_an_undisturbed_run(finished, interrupted):
    assert numbers(interrupted[0]) == numbers(finished)


def test_no_finished_trial_is_trained_again(interrupted):
    _, seen = interrupted
    assert 0 < len(seen[2]) < len(seen[3]) < len(seen[-1])
    for before, after in itertools.pairwise(seen):
        assert {key: after[key] for key in before} == before


def test_no_half_file_is_left(interrupted):
    out, _ = interrupted
    left = [p.name for p in out.rglob("*") if p.is_file() and (p.suffix in (".part", ".resume") or ".tmp" in p.name)]
    assert left == []


def test_the_same_command_on_a_finished_run_changes_nothing(finished, tiny_file, command):
    before = rows(finished), numbers(finished)
    done = command("run", tiny_file, "--out", finished)
    assert done.returncode == 0, done.stderr
    assert (rows(finished), numbers(finished)) == before
