"""Does a run lose anything? Hundreds of runs are harmed, each in its own way, and must end with the numbers of one that was not.

    make soak                              # or: python benchmarks/soak.py
    python benchmarks/soak.py --only kill  # kill, full, worker, nan, store, checkpoint or state
    python benchmarks/soak.py --minutes 30 # start nothing new after half an hour; the same command goes on

A case that has held is not tried again, unless --fresh is given; results go to ``results/soak.json`` and ``results/soak.md`` after
each. Needs Linux and a C compiler. What is tried stands at the functions whose names begin with ``try_``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from faults.lab import Lab, can_harm, config_text, leftovers, lost, result_of, trials_of, write_pictures
from safetensors.torch import load_file

from triaxis.errors import StoreError
from triaxis.store import open_store
from triaxis.store.checkpoints import load_checkpoint, save_checkpoint
from triaxis.store.files import write_json, write_text
from triaxis.store.journal import journal_of
from triaxis.training.resume import read_resume, write_resume

RESULTS = Path(__file__).parent / "results"
NUM_KILLS, NUM_ELASTIC, NUM_WORKERS = 100, 24, 20
PAGE, LAST_BYTES = 4096, 4096
BITS = 20_000
"""Bits of a store that are flipped, each alone."""


@dataclass(frozen=True)
class Case:
    """One thing that is tried: `do` returns what was seen, and raises AssertionError where it did not hold."""

    name: str
    do: Callable[[], str]


class Bench:
    """The undisturbed runs, the lab, and a folder for everything."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self._whole: dict[str, tuple[dict[str, Any], list[str], float]] = {}

    def config(self, kind: str) -> Path:
        """Return the configuration file of ``chains``, ``elastic``, ``slow`` (saves no state within epochs) or ``streamed``."""
        file = self.folder / f"{kind}.yaml"
        text = config_text("elastic" if kind == "elastic" else "chains", minutes=10 if kind == "slow" else 0.002)
        if kind == "streamed":
            pictures = write_pictures(self.folder / "pictures")
            text = text.replace("{source: digits, ", f"{{source: 'imagefolder:{pictures}', memory: stream, workers: 2, ")
        file.write_text(text)
        return file

    def whole(self, kind: str) -> tuple[dict[str, Any], list[str], float]:
        """Return an undisturbed run's result, its operations on files, and its seconds; it is done once."""
        if kind not in self._whole:
            out, log = self.folder / f"whole-{kind}", self.folder / f"{kind}.txt"
            for old in (out, log):
                shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
            done = self.lab.run(self.config(kind), out, kind="count", log=log)
            assert done.code == 0, done.said
            self._whole[kind] = result_of(out), log.read_text().splitlines(), done.seconds
        return self._whole[kind]

    def harmed(self, kind: str, codes: set[int], **harm: Any) -> str:
        """Harm a new run, let the same command go on, and compare.

        Raises:
            AssertionError: A number differs, a trial is lost or was trained twice, or something was left behind.
        """
        wanted, out = self.whole(kind)[0], self.folder / "harmed"
        shutil.rmtree(out, ignore_errors=True)
        first = self.lab.run(self.config(kind), out, **harm)
        assert first.code in codes, f"ended with {first.code}: {first.said[-2000:]}"
        assert "Traceback" not in first.said, first.said[-2000:]
        if first.code > 0:
            assert first.said.count("error:") == 1 and "free some space" in first.said, first.said[-2000:]
        before = trials_of(out) if out.exists() else {}
        done = self.lab.run(self.config(kind), out)
        assert done.code == 0, f"the same command ended with {done.code}: {done.said[-2000:]}"
        assert not lost(before, trials_of(out)), "a finished trial was lost or trained again"
        found = result_of(out)
        differing = [part for part in wanted if wanted[part] != found[part]]
        assert not differing, f"{', '.join(differing)} differ from the undisturbed run's"
        assert not leftovers(out), f"left behind: {leftovers(out)}"
        return f"ended with {first.code} after {first.seconds:.1f} s, {len(before)} trials were there"


def try_kills(bench: Bench) -> Iterator[Case]:
    """SIGKILL, every second time in the middle of a write, else at a random moment."""
    for number in range(NUM_KILLS + NUM_ELASTIC):
        kind = "chains" if number < NUM_KILLS else "elastic"

        def do(number: int = number, kind: str = kind) -> str:
            draw = random.Random(number)
            _, operations, seconds = bench.whole(kind)
            if number % 2:
                return bench.harmed(kind, {-9, 0}, kill_after_s=draw.uniform(0, seconds))
            num_writes = sum("write" in line.split()[1] for line in operations)
            return bench.harmed(kind, {-9, 0}, kind="half", at=draw.randint(1, num_writes))

        yield Case(f"kill {kind} {number:03d}", do)


def try_full_disk(bench: Bench) -> Iterator[Case]:
    """The disk is full from the n-th operation on that needs room, for every n."""
    operations = bench.whole("slow")[1]
    for at in range(1, sum(line.split()[1] not in ("unlink", "unlinkat") for line in operations) + 1):
        yield Case(f"full {at:04d}", lambda at=at: bench.harmed("slow", {0, StoreError.exit_code}, kind="full", at=at))


def try_dead_workers(bench: Bench) -> Iterator[Case]:
    """A process that decodes images is killed at a random moment, in each stage."""
    for number in range(NUM_WORKERS):

        def do(number: int = number) -> str:
            seconds = bench.whole("streamed")[2]
            return bench.harmed("streamed", {0}, kill_worker_after_s=random.Random(number).uniform(0, seconds))

        yield Case(f"worker {number:03d}", do)


SPOILT = """
from triaxis.training.loop import Loop
real, names = Loop._part_loss, []
def spoilt(self, *arguments):
    loss, name = real(self, *arguments), self.saving.path.stem
    if len(name) == 16 and names in ([], [name]) and self.step >= {step}:
        names.append(name)
        loss = loss * float("nan")
    return loss
Loop._part_loss = spoilt
"""


def try_nan_in_a_trial(bench: Bench) -> Iterator[Case]:
    """The loss of one trial becomes NaN at a step: it alone fails, and the same command tries it again."""

    def do(step: int) -> str:
        wanted, out = bench.whole("chains")[0], bench.folder / "harmed"
        shutil.rmtree(out, ignore_errors=True)
        bench.lab.run(bench.config("chains"), out, prelude=SPOILT.format(step=step))
        before = trials_of(out)
        assert sum("must be finite" in body for body in before.values()) == 1, "one trial fails of it"
        done = bench.lab.run(bench.config("chains"), out)
        assert done.code == 0, done.said[-2000:]
        assert not lost(before, trials_of(out)), "a finished trial was lost or trained again"
        assert not leftovers(out), f"left behind: {leftovers(out)}"
        found = result_of(out)
        assert sorted(found["trials"], key=str) == sorted(wanted["trials"], key=str), "trials differ"
        return f"failed at step {step + 1}, measured at the second attempt"

    for step in range(6):
        yield Case(f"nan {step}", lambda step=step: do(step))


def _stores(bench: Bench) -> tuple[Path, bytes, bytes, Any]:
    bench.whole("chains")
    source, folder = bench.folder / "whole-chains" / "store.sqlite", bench.folder / "store"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder / "store.sqlite", source.read_bytes(), journal_of(source).read_bytes(), _kept(source)


def _kept(path: Path) -> Any:
    with open_store(path, read_only=True) as store:
        keys = [row[0] for row in store._connection.execute("SELECT key FROM records ORDER BY key")]
        return [result.to_json() for result in store.trials()], {key: store.record(key) for key in keys}


def _mended(path: Path, store: bytes, journal: bytes, wanted: Any) -> str:
    """Put a store back, open it for writing, and return what is wrong."""
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(store)
    journal_of(path).write_bytes(journal)
    try:
        open_store(path).close()
        return "" if _kept(path) == wanted else "something is lost"
    except StoreError as error:
        return f"named: {error}" if str(path) in str(error) and "\n" not in str(error) else f"not named: {error}"


def try_stores(bench: Bench) -> Iterator[Case]:
    """The store and its journal, cut off at each page and each of the last 4,096 bytes, and with single bits flipped."""

    def cut(which: int) -> str:
        path, *copies, wanted = _stores(bench)
        size = len(copies[which])
        lengths = sorted({*range(0, size, PAGE), *range(max(0, size - LAST_BYTES), size)})
        for length in lengths:
            harmed = list(copies)
            harmed[which] = copies[which][:length]
            assert not (said := _mended(path, *harmed, wanted)), f"cut off at {length}: {said}"
        return f"{len(lengths)} lengths, nothing lost"

    def flip(which: int) -> str:
        path, *copies, wanted = _stores(bench)
        size, named = 8 * len(copies[which]), []
        places = range(size) if size <= BITS else sorted(random.Random(0).sample(range(size), BITS))
        for place in places:
            harmed = list(copies)
            content = bytearray(copies[which])
            content[place // 8] ^= 1 << place % 8
            harmed[which] = bytes(content)
            said = _mended(path, *harmed, wanted)
            assert not said or said.startswith("named"), f"bit {place}: {said}"
            named += [place] if said else []
        return f"{len(places)} bits, nothing lost; {len(named)} times the file was named instead of mended, at {named[:40]}"

    for which, name in enumerate(("store", "journal")):
        yield Case(f"store: {name} cut off", lambda which=which: cut(which))
        yield Case(f"store: {name} flipped", lambda which=which: flip(which))


def try_checkpoints(bench: Bench) -> Iterator[Case]:
    """A checkpoint cut off at every byte and with every bit flipped: it is named, and never taken for what was written."""

    def do(how: str, name: str, content: bytes) -> str:
        path, num = bench.folder / "damaged.safetensors", 0
        for harmed in _harmed(how, content):
            path.write_bytes(harmed)
            said = _refusal(path)
            assert path.name in said and "\n" not in said, f"{how} number {num}: {said or 'accepted'}"
            num += 1
        return f"{num} times named, {name} of {len(content)} bytes"

    state = {"weight": torch.arange(30.0).view(5, 6), "half": torch.ones(3, dtype=torch.bfloat16), "count": torch.tensor(7)}
    tiny = save_checkpoint(bench.folder / "tiny.safetensors", state).read_bytes()
    bench.whole("chains")
    base = (bench.folder / "whole-chains" / "checkpoints" / "base.safetensors").read_bytes()
    assert load_file(bench.folder / "tiny.safetensors").keys() == state.keys()
    for how in ("cut off", "flipped"):
        yield Case(f"checkpoint {how}: tiny", lambda how=how: do(how, "tiny", tiny))
    yield Case("checkpoint cut off: base", lambda: do("cut off", "base", base))


def _refusal(path: Path) -> str:
    try:
        load_checkpoint(path)
    except StoreError as error:
        return str(error)
    return ""


def try_states(bench: Bench) -> Iterator[Case]:
    """The state of a training cut off at every byte and with every bit flipped: it is removed, or what it holds is what was written."""

    def do(how: str) -> str:
        path, num_same, num_gone = bench.folder / "tiny.resume", 0, 0
        write_resume(path, {"epochs_done": 1, "model": {"w": torch.arange(5.0)}, "losses": [0.5, 0.25]})
        content = path.read_bytes()
        logging.disable(logging.WARNING)
        try:
            for harmed in _harmed(how, content):
                path.write_bytes(harmed)
                found = read_resume(path)
                if found is None:
                    num_gone += 1
                    assert not path.exists()
                else:
                    num_same += 1
                    assert found["epochs_done"] == 1 and found["losses"] == [0.5, 0.25]
                    assert torch.equal(found["model"]["w"], torch.arange(5.0))
        finally:
            logging.disable(logging.NOTSET)
        return f"{num_gone} times removed, {num_same} times whole all the same, of {len(content)} bytes"

    for how in ("cut off", "flipped"):
        yield Case(f"state {how}", lambda how=how: do(how))


def _harmed(how: str, content: bytes) -> Iterator[bytes]:
    if how == "cut off":
        yield from (content[:length] for length in range(len(content)))
        return
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


TRIED = {
    "kill": try_kills,
    "full": try_full_disk,
    "worker": try_dead_workers,
    "nan": try_nan_in_a_trial,
    "store": try_stores,
    "checkpoint": try_checkpoints,
    "state": try_states,
}


def commit() -> str:
    """Return the commit of this checkout."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def soak(bench: Bench, only: str, results: dict[str, Any], until: float, file: Path) -> None:
    """Try each case that has not held yet, and write the results after each."""
    for name, cases in TRIED.items():
        if not name.startswith(only):
            continue
        for case in cases(bench):
            if results["cases"].get(case.name, {}).get("held"):
                continue
            if time.monotonic() > until:
                return
            start = time.monotonic()
            try:
                held, seen = True, case.do()
            except (AssertionError, OSError, ValueError) as error:
                held, seen = False, f"{type(error).__name__}: {error}"[:3000]
                shutil.copytree(bench.folder / "harmed", bench.folder / case.name.replace(" ", "-"), dirs_exist_ok=True)
            spent = round(time.monotonic() - start, 1)
            results["cases"][case.name] = {"held": held, "seen": seen, "seconds": spent, "commit": commit()}
            print(f"{'held' if held else 'FAILED'}  {case.name}: {seen if held else seen[:300]}", flush=True)
            write_results(results, file)


def write_results(results: dict[str, Any], file: Path) -> None:
    """Write the JSON and the page beside it."""
    write_json(file, results)
    lines = ["# Soak: runs that were harmed", "", f"{results['machine']}. `make soak`; a case that held is not tried again.", ""]
    lines += ["| what | cases | held | minutes |", "|---|---:|---:|---:|"]
    for name, tried in TRIED.items():
        found = [case for key, case in results["cases"].items() if key.startswith(name)]
        minutes = sum(case["seconds"] for case in found) / 60
        words = " ".join((tried.__doc__ or "").split()).rstrip(".")
        lines.append(f"| {words} | {len(found)} | {sum(case['held'] for case in found)} | {minutes:.1f} |")
    failed = [(key, case["seen"].partition("\n")[0]) for key, case in results["cases"].items() if not case["held"]]
    if failed:
        lines += ["", "Did not hold:", "", *(f"* {key}: {seen[:90]}" for key, seen in failed)]
    write_text(file.with_suffix(".md"), "\n".join(lines) + "\n")


def main() -> None:
    """Try what has not held yet; the exit code is 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the first letters of what to try: " + ", ".join(TRIED))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing new after this time")
    parser.add_argument("--fresh", action="store_true", help="try again what has held")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "triaxis-soak", help="folder for the runs")
    parser.add_argument("--results", type=Path, default=RESULTS / "soak.json", help="file for the results")
    options = parser.parse_args()
    if not can_harm():
        sys.exit("the soak needs Linux and a C compiler, as `cc`")
    torch.set_num_threads(1)
    machine = f"{platform.platform()}, {os.cpu_count()} cores, torch {torch.__version__}"
    results: dict[str, Any] = {"machine": machine, "cases": {}}
    if options.results.exists() and not options.fresh:
        results = {**json.loads(options.results.read_text()), "machine": machine}
    with Lab(options.work) as lab:
        soak(Bench(lab, options.work.resolve()), options.only, results, time.monotonic() + 60 * options.minutes, options.results)
    sys.exit(not all(case["held"] for case in results["cases"].values()))


if __name__ == "__main__":
    main()
