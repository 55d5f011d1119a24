"""Does the method pay for its own trials? Every arm trains equally much after the base model, triaxis with its collection included.

    python benchmarks/effort.py --pair resnet20-cifar10 --data PATH --seeds 0 1 2
    python benchmarks/effort.py --pair depthwise-tiny50 --data PATH --seeds 0 1 2 --open-test

Stop it at any time: the same command goes on, and never repeats what is finished. The protocol is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rivals.effort_results import gather, markdown
from rivals.pairs import ARMS, EFFORTS, PAIRS
from rivals.profiles import AT, data_source, read_budget

from triaxis.errors import TriaxisError
from triaxis.store.files import write_json, write_text

HERE = Path(__file__).parent


def parser() -> argparse.ArgumentParser:
    """Return the command line's reader."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--data", help="the pair's images, as class folders under train/ and test/")
    made.add_argument("--pair", default="resnet20-cifar10", choices=PAIRS)
    made.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds to run; results hold all that were ever run here")
    made.add_argument("--budgets", nargs="+", metavar="BUDGET", help="such as macs=25%% latency=50%%; default: the pair's")
    made.add_argument("--efforts", type=float, nargs="+", default=list(EFFORTS), help="training after the base model's, in shares of it")
    made.add_argument("--arms", nargs="+", type=arm, default=list(ARMS), help="an arm@0.2 has a peak rate of its own")
    made.add_argument("--work", type=Path, default=Path("runs/bench-effort"), help="where runs are kept")
    made.add_argument("--out", type=Path, default=HERE / "results", help="where the JSON and Markdown go")
    made.add_argument("--minutes", type=float, help="start nothing new after this time")
    made.add_argument("--open-test", action="store_true", help="evaluate finished arms on test, which nothing may be chosen by afterwards")
    made.add_argument("--report-only", action="store_true", help="write the results again from the runs, training nothing")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except TriaxisError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def arm(text: str) -> str:
    """Return an arm's name, as `argparse` wants it.

    Raises:
        ValueError: There is no such arm, or what follows its @ is no number.
    """
    name, at, rate = text.partition(AT)
    if name not in ARMS or (at and not float(rate) > 0):
        raise ValueError
    return text


def run(options: argparse.Namespace) -> int:
    """Run the seeds of one pair, writing the results after each."""
    pair, work = PAIRS[options.pair], options.work / options.pair
    deadline = time.monotonic() + 60 * options.minutes if options.minutes is not None else float("inf")
    budgets = tuple(options.budgets or pair.budgets)
    for text in budgets:
        read_budget(text)
    if not options.report_only:
        from rivals.data import load
        from rivals.effort_run import Order, run_seed

        source = data_source(options.data or "")
        order = Order(pair, source, budgets, tuple(options.efforts), tuple(options.arms), deadline, options.open_test)
        splits = load(pair.config(source, 0))
        for seed in options.seeds:
            is_complete = run_seed(order, seed, work / f"seed-{seed}", splits)
            report(options.pair, work, options.out)
            if not is_complete:
                print("Not all is done: the time was up. The same command goes on where this one stopped.", flush=True)
                return 0
    report(options.pair, work, options.out)
    return 0


def report(name: str, work: Path, out: Path) -> None:
    """Write JSON and Markdown from all the runs there are."""
    results = gather(PAIRS[name], sorted(work.glob("seed-*"), key=lambda path: int(path.name.partition("-")[2])))
    write_json(out / f"effort-{name}.json", results)
    write_text(out / f"effort-{name}.md", markdown(results))
    print(f"{len(results['records'])} records in {out / f'effort-{name}'}.json and .md", flush=True)


if __name__ == "__main__":
    sys.exit(main())
