"""One seed's run: base model, collection, arms, and at the very end test accuracy and speed. Finished parts are never done again."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rivals.arms import MAKERS
from rivals.cuts import Cut, OutOfReachError, Start, ratios
from rivals.profiles import PAID, SCRATCH_ARMS, WIDTH_ARMS, Profile, read_budget
from rivals.speed import available, measure_speed, readings, speed_fields
from rivals.training import Case, train
from triaxis.data.images import Images, Splits
from triaxis.errors import TriaxisError
from triaxis.metrics.base import Reading
from triaxis.metrics.macs import count_params
from triaxis.progress import Progress
from triaxis.stages.base import open_run
from triaxis.stages.context import Opened
from triaxis.stages.fit import fit_run
from triaxis.stages.pipeline import collect_stage
from triaxis.store.checkpoints import load_checkpoint, save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.training.loop import OnStep

FINAL_STATES = ("done", "infeasible")


@dataclass(frozen=True)
class Order:
    """What to run: the arms at the budgets, those of the dear arms, and when to start nothing new (`time.monotonic`).

    With `is_training_only` test stays closed and no final speed is measured.
    """

    profile: Profile
    source: str
    budgets: tuple[str, ...]
    arms: tuple[str, ...]
    dear_budgets: tuple[str, ...]
    deadline: float = float("inf")
    is_training_only: bool = False

    def arms_at(self, budget: str) -> list[str]:
        """The arms of a budget; those that train many times as long as the others only where the dear ones run."""
        dear = SCRATCH_ARMS if read_budget(budget).metric == "macs" else (*SCRATCH_ARMS, *WIDTH_ARMS)
        return [arm for arm in self.arms if arm not in dear or budget in self.dear_budgets]

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.deadline


def run_seed(order: Order, seed: int, path: Path, splits: Splits, progress: Progress, say: Callable[[str], None]) -> bool:
    """Run what is missing of one seed in its run directory; return whether nothing is missing any more."""
    config, directory = order.profile.config(order.source, seed), RunDirectory(path)
    with directory.open(config) as store:
        torch.manual_seed(seed)
        opened = open_run(config, directory, store, progress=progress, splits=splits)
        collect_stage(*opened, config.budgets)
        if store.record("predictor") is None:
            fit_run(store, config)
        cases = [Case(opened, order.profile, budget, arm) for budget in order.budgets for arm in order.arms_at(budget)]
        if not _run_all(order, cases, say):
            return False
        paid = [Case(opened, order.profile, budget, arm + PAID) for budget in order.dear_budgets for arm in strongest(opened, budget)]
        return _run_all(order, paid, say) and (order.is_training_only or _close_all(order, [*cases, *paid], opened, say))


def _run_all(order: Order, cases: Sequence[Case], say: Callable[[str], None]) -> bool:
    for case in cases:
        if case.record(case.arm).get("state") in FINAL_STATES:
            continue
        if order.is_over:
            return False
        say(words(run_arm(case)))
    return True


def strongest(opened: Opened, budget_text: str) -> tuple[str, ...]:
    """Return the rivals that get the collection's effort too: the equal split, and the width-only arm with the best val accuracy."""
    found = {arm: (opened.run.store.record(f"arm:{budget_text}:{arm}") or {}).get("val_accuracy") for arm in (*WIDTH_ARMS, "equal_split")}
    finished = {arm: accuracy for arm, accuracy in found.items() if accuracy is not None}
    widths = [arm for arm in WIDTH_ARMS if arm in finished]
    return tuple(arm for arm in ("equal_split", max(widths, key=lambda a: finished[a], default="")) if arm in finished)


def run_arm(case: Case) -> dict[str, Any]:
    """Cut, fine-tune and evaluate on val; store and return the record. What triaxis refuses is a record too, tried again next time."""
    start = time.perf_counter()
    record: dict[str, Any] = {"arm": case.arm, "budget": case.budget_text, "seed": case.opened.run.config.seed}
    try:
        record |= {"state": "done", **_finish(case, _start(case))}
    except OutOfReachError as error:
        record |= {"state": "infeasible", "smallest_fraction": error.smallest, "reason": str(error)}
    except TriaxisError as error:
        record |= {"state": "failed", "reason": str(error)}
    store, seconds = case.opened.run.store, time.perf_counter() - start
    store.put_record(f"arm:{case.key}", {**record, "seconds": seconds})
    store.put_record("arms", sorted({*(store.record("arms") or []), case.key}))
    return {**record, "seconds": seconds}


def _start(case: Case) -> Start:
    """Make the cut, or take up the one that a stopped process made: a measured latency might choose another one today."""
    store, path = case.opened.run.store, case.checkpoint("cut")
    plain = store.record(f"cut:{case.key}")
    if plain is None or not path.exists():
        made = MAKERS[case.method](case)
        save_checkpoint(path, made.model.state_dict())
        fields = {"spent": made.spent, "notes": made.notes, "recipe": made.recipe.to_json() if made.recipe else None}
        store.put_record(f"cut:{case.key}", {"cut": made.cut.to_plain(), **fields})
        return made
    cut = Cut.from_plain(plain["cut"])
    model = cut.apply(case.opened.base)
    model.load_state_dict(load_checkpoint(path))
    recipe = type(case.opened.run.config.finetune).from_json(plain["recipe"]) if plain["recipe"] else None
    return Start(cut, model, plain["spent"], recipe, plain["notes"])


def _finish(case: Case, start: Start) -> dict[str, Any]:
    opened, side = case.opened, start.cut.side_px
    macs = case.macs(start.model, side)
    tuned = case.recipe
    recipe = start.recipe or dataclasses.replace(tuned, epochs=case.epochs(case.effort - start.spent, macs))
    watch = _watch_test(case, start.model, side, case.images_per_epoch // tuned.batch_size)
    done = train(case, start.model, recipe, side, "arm", watch)
    found = opened.trainer.evaluate(start.model, opened.data.splits.val, side)
    save_checkpoint(case.checkpoint("arm"), start.model.state_dict())
    params, effort = count_params(start.model), start.spent + done.num_images * macs
    expected = start.notes.get("predicted_accuracy")
    return {
        "cut": start.cut.to_plain(),
        "ratios": ratios(opened.base, start.cut, start.model),
        "side_px": side,
        "macs": macs,
        "macs_fraction": macs / case.base_record["macs"],
        "params": params,
        "params_fraction": params / case.base_record["params"],
        "epochs": recipe.epochs,
        "train_macs": effort,
        "train_cost": effort / case.base_record["train_macs"] if case.base_record["train_macs"] else None,
        "val_accuracy": found.value,
        "val_loss": found.loss,
        "test_accuracy": None,
        **start.notes,
        "prediction_error": found.value - expected if expected is not None else None,
    }


def _watch_test(case: Case, model: nn.Module, side_px: int, steps_per_epoch: int) -> OnStep | None:
    """Note the best accuracy on test after any epoch, where the profile asks for that column; nothing is chosen by it."""
    if not case.profile.best_on_test:
        return None
    opened, key = case.opened, f"best_on_test:{case.key}"
    test = opened.data.splits.test.open()

    def on_step(step: int, steps: int, loss: torch.Tensor) -> None:
        if step % steps_per_epoch == 0:
            accuracy = opened.trainer.evaluate(model, test, side_px).value
            opened.run.store.put_record(key, max(accuracy, opened.run.store.record(key) or 0.0))

    return on_step


def _close_all(order: Order, cases: Sequence[Case], opened: Opened, say: Callable[[str], None]) -> bool:
    """Open test and measure speed, now that every arm stands."""
    waiting = [case for case in cases if (record := case.record(case.arm)).get("state") == "done" and record["test_accuracy"] is None]
    if opened.run.store.record("base_test") is None or waiting:
        # A copy: evaluating moves a network to the device, and the surgeon's base belongs on the CPU.
        test, base = opened.data.splits.test.open(), copy.deepcopy(opened.base.surgeon.base)
        opened.run.store.put_record("base_test", opened.trainer.evaluate(base, test, opened.base.side_px).value)
        runtimes, batches = available(order.profile.runtimes), order.profile.batches
        base_calls = {name: readings(base, opened.base.input_shape, name, batches, opened.trainer.device) for name in runtimes}
        for case in waiting:
            if order.is_over:
                return False
            say(words(_close(case, test, base_calls)))
    return True


def _close(case: Case, test: Images, base_calls: dict[str, dict[int, Reading]]) -> dict[str, Any]:
    opened, record = case.opened, case.record(case.arm)
    cut = Cut.from_plain(record["cut"])
    model = cut.apply(opened.base)
    model.load_state_dict(load_checkpoint(case.checkpoint("arm")))
    accuracy = opened.trainer.evaluate(model, test, cut.side_px).value
    shape, profile = (opened.base.source.in_channels, cut.side_px, cut.side_px), case.profile
    speed = {
        name: measure_speed(base, readings(model, shape, name, profile.batches, opened.trainer.device), seconds=profile.seconds)
        for name, base in base_calls.items()
    }
    best = opened.run.store.record(f"best_on_test:{case.key}")
    record |= {"test_accuracy": accuracy, "best_on_test": max(best, accuracy) if best is not None else None}
    record |= {"speed": speed, **speed_fields(speed, record["macs_fraction"])}
    opened.run.store.put_record(f"arm:{case.key}", record)
    return record


def words(record: dict[str, Any]) -> str:
    """Return one line on a record, for people."""
    head = f"seed {record['seed']}  {record['budget']:<12} {record['arm']:<28}"
    if record["state"] != "done":
        return f"{head} {record['state']}: {record['reason']}"
    body = f"{head} val {record['val_accuracy']:.2%} at {record['macs_fraction']:.1%} of the MACs, epochs: {record['epochs']}"
    if record["test_accuracy"] is None:
        return f"{body}, {record['seconds']:.0f} s"
    return f"{body}; test {record['test_accuracy']:.2%}, {record['speedup_batch1']:.2f} x at batch 1"
