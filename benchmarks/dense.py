"""Proof on segmentation: triaxis beside one axis alone and beside an equal split, on made scenes, at the same cost.

    python benchmarks/data/scenes.py CIFAR10 SCENES --num 800 200 400 --classes airplane automobile bird frog ship
    python benchmarks/dense.py --data SCENES --seeds 0 1 2

The base model is a small U-Net of triaxis's own, trained from scratch on the scenes. A run of triaxis cuts it to half the MACs. Each
other arm cuts the same base model to the same budget, along depth, width or resolution alone, or with a third of the saving from
each axis, and is fine-tuned by the same recipe, seed and teacher. No arm looks at test before all are trained. Each seed takes about
20 minutes of one thread. Stop it at any time: the same command goes on, and never repeats what is finished.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rivals.arms import depth, equal_split, resolution
from rivals.cuts import Cut, OutOfReachError, Start, cost_fraction, dearest_within, ratios
from rivals.training import Case

from triaxis.config import Config, config_from_plain
from triaxis.errors import TriaxisError
from triaxis.progress import Progress, Step
from triaxis.stages.base import open_run
from triaxis.stages.context import Opened
from triaxis.stages.pipeline import run
from triaxis.store.checkpoints import load_into, save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.store.files import read_json, write_json, write_text

HERE = Path(__file__).parent
BUDGET = "macs=50%"
FINETUNE_EPOCHS = 4
RECIPE = {"batch_size": 32, "crop_px": 4, "flip": True, "peak_lr": 0.1, "weight_decay": 5e-4}


def config_of(data: Path, seed: int) -> Config:
    """Return the configuration of a seed's run."""
    return config_from_plain(
        {
            "seed": seed,
            "threads": 1,
            "device": "cpu",
            "precision": "fp32",
            "task": "segmentation",
            "model": {"name": "unet:basic", "args": {"width": 8, "levels": 4, "blocks": 2, "stride": 2}},
            "data": {"source": f"masks:{data}"},
            "budget": BUDGET,
            "base": {"epochs": 16, **RECIPE},
            "collect": {"num_trials": 7, "block_images": 200, "calibrate_images": 400, "recipe": {"epochs": 2, **RECIPE, "peak_lr": 0.05}},
            "finetune": {"epochs": FINETUNE_EPOCHS, **RECIPE, "peak_lr": 0.05},
            "width": {"round_to": 2},
            "profile": {"batches": [1], "repeats": 5},
            "export": {"formats": ["safetensors"]},
        }
    )


def width(case: Case) -> Start:
    """Keep the same share of the channels in every group."""
    surgeon = case.opened.base.surgeon
    levels = surgeon.width_levels()

    def make(step: int) -> Start:
        cut = Cut(case.opened.base.side_px, surgeon.plan(width=levels[step], importance=case.opened.run.config.width.importance))
        return Start(cut, cut.apply(case.opened.base))

    return dearest_within(case.opened, case.budget, make, len(levels))


ARMS: dict[str, Callable[[Case], Start]] = {"depth": depth, "width": width, "resolution": resolution, "equal_split": equal_split}
TITLES = {
    "triaxis": "triaxis, all three axes",
    "depth": "depth alone",
    "width": "width alone",
    "resolution": "resolution alone",
    "equal_split": "equal split",
}


class Lines:
    """Prints one line when a stage begins and one when it ends."""

    def hear(self, step: Step) -> None:
        """Print a line."""
        if step.event in ("begin", "end", "result"):
            print(f"  {step}", flush=True)

    def close(self) -> None:
        """Nothing is left to say."""


def run_seed(data: Path, seed: int, work: Path) -> dict[str, Any]:
    """Return the records of all arms of a seed; what was finished before is read back."""
    config, folder = config_of(data, seed), work / f"seed-{seed}"
    outcome = run(config, folder, progress=Progress(Lines()))
    found = {"seed": seed, "base": outcome.summary["base"], "arms": {"triaxis": _of_run(outcome.summary)}}
    directory = RunDirectory(folder)
    with directory.open(config) as store:
        opened = open_run(config, directory, store)
        trained = {arm: _trained(opened, arm, folder / f"{arm}.json") for arm in ARMS}
        test = opened.data.splits.test.open() if any("test" not in record for _, record in trained.values()) else None
        for arm, (start, record) in trained.items():
            if "test" not in record and start is not None:
                score = opened.trainer.evaluate(start.model, test, start.cut.side_px)
                record |= {"test": score.value, "interval": list(score.interval)}
                write_json(folder / f"{arm}.json", record)
            found["arms"][arm] = record
    write_json(folder / "arms.json", found)
    return found


def _of_run(summary: dict[str, Any]) -> dict[str, Any]:
    cut, solution = summary["compressed"], summary["solution"]
    return {
        "macs": cut["macs"] / summary["base"]["macs"],
        "ratios": {axis: solution[axis] for axis in ("depth", "width", "resolution")},
        "val": cut["val_accuracy"],
        "test": cut["test_accuracy"],
        "interval": cut["test_interval"],
        "predicted": solution["predicted_accuracy"],
    }


def _trained(opened: Opened, arm: str, file: Path) -> tuple[Start | None, dict[str, Any]]:
    """Cut and fine-tune an arm, or read it back; without a start where the budget is out of its reach, or where its test is known."""
    record: dict[str, Any] = read_json(file) if file.exists() else {}
    if "test" in record or "smallest" in record:
        return None, {"test": None, **record}
    case = Case(opened=opened, profile=None, budget_text=BUDGET, arm=arm)  # type: ignore[arg-type]
    try:
        start = ARMS[arm](case)
    except OutOfReachError as error:
        record = {"smallest": error.smallest}
        write_json(file, record)
        return None, {"test": None, **record}
    weights = opened.run.directory.checkpoint(f"dense-{arm}")
    if record and weights.exists():
        load_into(start.model, weights)
        return start, record
    config, splits, side = opened.run.config, opened.data.splits, start.cut.side_px
    print(f"  {arm}: fine-tuning", flush=True)
    opened.trainer.finetune(start.model, splits.train, config.finetune, side_px=side, seed=config.seed, name=f"dense-{arm}")
    record = {
        "macs": cost_fraction(opened, case.budget)(start.model, side),
        "ratios": ratios(opened.base, start.cut, start.model),
        "val": opened.trainer.evaluate(start.model, splits.val, side).value,
    }
    save_checkpoint(weights, start.model.state_dict())
    write_json(file, record)
    return start, record


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the results of all seeds as Markdown."""
    lines = [
        "# Segmentation at half the MACs",
        "",
        "Written by `python benchmarks/dense.py`; the protocol is at the head of that file. Scenes are made from CIFAR-10 pictures",
        "(`benchmarks/data/scenes.py`), and the base model is `unet:basic`, trained from scratch. Mean IoU on test, in per cent; a mean",
        "over seeds stands with the standard deviation between them.",
        "",
        "| arm | depth | width | resolution | MACs left | test mean IoU |",
        "|---|---|---|---|---|---|",
        f"| base model | 1 | 1 | 1 | 100 % | {_spread([seed['base']['test_accuracy'] for seed in found])} |",
    ]
    for arm, title in TITLES.items():
        records = [seed["arms"][arm] for seed in found if arm in seed["arms"]]
        done = [record for record in records if record.get("test") is not None]
        if not done:
            smallest = f"{100 * min(record['smallest'] for record in records):.0f} %" if records else "not run"
            lines.append(f"| {title} | | | | {smallest} | out of reach |")
            continue
        means = [statistics.mean(record["ratios"][axis] for record in done) for axis in ("depth", "width", "resolution")]
        left = f"{100 * statistics.mean(record['macs'] for record in done):.1f} %"
        lines.append(f"| {title} | {' | '.join(f'{m:.2f}' for m in means)} | {left} | {_spread([r['test'] for r in done])} |")
    lines += ["", f"Seeds: {', '.join(str(seed['seed']) for seed in found)}.", ""]
    return "\n".join(lines)


def _spread(shares: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(shares):.1f}"
    return f"{mean} ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else mean


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds, and write the table of all that were ever run in the folder of work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="what benchmarks/data/scenes.py wrote")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/bench-dense"), help="where runs are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where dense.json and dense.md go")
    options = parser.parse_args(arguments)
    try:
        for seed in options.seeds:
            print(f"seed {seed}", flush=True)
            run_seed(options.data, seed, options.work)
            found = [read_json(path) for path in sorted(options.work.glob("seed-*/arms.json"))]
            options.out.mkdir(parents=True, exist_ok=True)
            write_json(options.out / "dense.json", {"schema": 1, "budget": BUDGET, "seeds": found})
            write_text(options.out / "dense.md", table(found))
            print(table(found), flush=True)
    except TriaxisError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
