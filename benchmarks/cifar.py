"""Proof on CIFAR-10: triaxis beside one axis and beside the peers, at the same cost. The protocol is in benchmarks/README.md.

    python benchmarks/cifar.py --data PATH --profile cpu --seeds 0 1 2

Stop it at any time: the same command goes on, and never repeats what is finished.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rivals.picture import svg
from rivals.profiles import ARMS, OPTIONAL_ARMS, PROFILES, Profile, data_source, read_budget
from rivals.results import gather
from rivals.tables import markdown

from triaxis.errors import TriaxisError
from triaxis.progress import Progress, Step
from triaxis.store.directory import RunDirectory
from triaxis.store.files import write_json, write_text

HERE = Path(__file__).parent

Profiles = Mapping[str, Sequence[Profile]]


class Lines:
    """Prints one line when a stage begins and one when it ends."""

    def __init__(self) -> None:
        self.last = ""

    def hear(self, step: Step) -> None:
        """Print a line."""
        if step.event == "begin":
            say(f"  {step.stage} ...")
        elif step.event == "end":
            say(f"  {step.stage}: {step.seconds:.0f} s  {self.last}")
        else:
            self.last = ", ".join(step.details)

    def close(self) -> None:
        """Nothing is left to say."""


def say(text: str) -> None:
    """Print at once, also into a file."""
    print(text, flush=True)


def parser(profiles: Profiles, arms: Sequence[str], family: str, description: str) -> argparse.ArgumentParser:
    """Return the command line's reader."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", help="CIFAR-10 as class folders under train/ and test/, or as torchvision keeps it")
    made.add_argument("--profile", default="cpu", choices=profiles)
    made.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds to run; results hold all that were ever run here")
    made.add_argument("--budgets", nargs="+", metavar="BUDGET", help="such as macs=25%% latency=50%%; default: the profile's")
    made.add_argument("--arms", nargs="+", choices=(*ARMS, *OPTIONAL_ARMS), default=list(arms))
    made.add_argument("--dear-budgets", nargs="*", metavar="BUDGET", help="those of scratch and of rivals with the collection's effort")
    made.add_argument("--work", type=Path, default=Path(f"runs/bench-{family}"), help="where runs are kept")
    made.add_argument("--out", type=Path, default=HERE / "results", help="where the JSON, Markdown and SVG go")
    made.add_argument("--minutes", type=float, help="start nothing new after this time")
    made.add_argument("--train-only", action="store_true", help="stop before test and speed, which want the machine to themselves")
    made.add_argument("--compile", action="store_true", help="train the arms with torch.compile")
    made.add_argument("--report-only", action="store_true", help="write the results again from the runs, training nothing")
    return made


def main(
    arguments: Sequence[str] | None = None,
    *,
    profiles: Profiles = PROFILES,
    arms: Sequence[str] = ARMS,
    family: str = "cifar",
    description: str = (__doc__ or "").splitlines()[0],
) -> int:
    """Run the command line of a family of profiles, each with its usual arms; return the exit code."""
    options = parser(profiles, arms, family, description).parse_args(arguments)
    try:
        return run(options, profiles[options.profile])
    except TriaxisError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def run(options: argparse.Namespace, profiles: Sequence[Profile]) -> int:
    """Run all seeds of the profile's networks, writing the results after each."""
    deadline = time.monotonic() + 60 * options.minutes if options.minutes is not None else float("inf")
    is_complete = True
    for profile in profiles:
        work = options.work / profile.name
        if not options.report_only:
            is_complete &= train_profile(options, profile, work, deadline)
        report(profile, work, options.out)
    if not is_complete:
        say("Not all is done: the time was up. The same command goes on where this one stopped.")
    return 0


def train_profile(options: argparse.Namespace, profile: Profile, work: Path, deadline: float) -> bool:
    """Run the seeds of one profile; return whether all are complete."""
    from rivals.data import load
    from rivals.run import Order, run_seed

    source = data_source(options.data or "")
    budgets = tuple(options.budgets or profile.budgets)
    dear = tuple(profile.dear_budgets if options.dear_budgets is None else options.dear_budgets)
    for text in (*budgets, *dear):
        read_budget(text)
    order = Order(
        profile=dataclasses.replace(profile, compile=options.compile),
        source=source,
        budgets=budgets,
        arms=tuple(arm for arm in (*ARMS, *OPTIONAL_ARMS) if arm in options.arms),
        dear_budgets=tuple(text for text in dear if text in budgets),
        deadline=deadline,
        is_training_only=options.train_only,
    )
    splits = load(profile.config(source, 0))
    is_complete = True
    for seed in options.seeds:
        if order.is_over:
            return False
        say(f"{profile.name}, seed {seed}")
        is_complete &= run_seed(order, seed, work / f"seed-{seed}", splits, Progress(Lines()), say)
        report(profile, work, options.out)
    return is_complete


def report(profile: Profile, work: Path, out: Path) -> None:
    """Write JSON, Markdown and SVG from all the runs there are."""
    folders = sorted(path for path in work.glob("seed-*") if RunDirectory(path).store_file.exists())
    results = gather(profile, sorted(folders, key=lambda path: int(path.name.partition("-")[2])))
    command = f"python benchmarks/{profile.family}.py --data PATH --profile {profile.name.partition('-')[0]} --seeds " + " ".join(
        str(entry["seed"]) for entry in results["seeds"]
    )
    name = f"{profile.family}-{profile.name}"
    write_json(out / f"{name}.json", results)
    write_text(out / f"{name}.md", markdown(results, profile, command))
    write_text(out / f"{name}.svg", svg(results))
    say(f"{len(results['records'])} records in {out / name}.json, .md and .svg")


if __name__ == "__main__":
    sys.exit(main())
