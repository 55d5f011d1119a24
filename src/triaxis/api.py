"""The library's front door: `compress` a trained model in a few lines."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from triaxis.config import Config
from triaxis.data.datasets import from_datasets
from triaxis.data.images import Splits
from triaxis.errors import ConfigError
from triaxis.process.usual_torch import usual_torch
from triaxis.progress import Progress
from triaxis.stages.pipeline import run
from triaxis.stages.task import task_of
from triaxis.store.directory import RunDirectory
from triaxis.surgery.find.control import listed
from triaxis.values import Budget, BudgetSpec, Solution, Verification


@dataclass(frozen=True)
class Result:
    """What `compress` returns.

    `model` is a plain ``nn.Module`` in evaluation mode for images of ``solution.side_px``; `summary` is what
    ``summary.json`` holds: accuracies in [0, 1], MACs and parameters for one image, latencies in ms by batch size; `solution` is the
    cut with its predicted accuracy; `verification` the base and the compressed model as measured on test; `directory` is the run
    directory, for ``triaxis report``, ``solve`` and ``frontier``.
    """

    model: nn.Module
    summary: dict[str, Any]
    solution: Solution
    verification: Verification
    directory: Path

    def report(self) -> Path:
        """Write ``report.html`` into the run directory and return its path."""
        from triaxis.report import report_run

        return report_run(self.directory)


@usual_torch()
def compress(
    model: nn.Module,
    splits: Splits | Sequence[Any],
    *,
    budget: BudgetSpec | Budget | str | Sequence[BudgetSpec | Budget | str],
    out: str | Path | None = None,
    config: Config | None = None,
    protect: Sequence[str] | str | None = None,
    prune_only: Sequence[str] | str | None = None,
    example_input: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Return the most accurate cut of a trained model that fits the budget, fine-tuned and verified.

    Args:
        model: A trained network that takes (B, C, S, S) images and returns (B, classes) logits, or what the task of `config` wants; it
            is not changed. Parameters that are frozen stay as they are, unless all of them are.
        splits: `Splits`, or (train, val, test) map-style data sets of (image, label) pairs, or DataLoaders of such. Images are (C, S, S)
            tensors, floating point as the model wants them or uint8 pixels that are normalised by train's mean and deviation, or PIL
            images likewise; see `from_datasets`.
        budget: Such as ``Budget.macs(fraction=0.5)`` or ``"latency=3ms"`` (at batch ``config.profile.latency_batch``, 1 by default);
            a sequence for several at once.
        out: Run directory; a new temporary one if None. The same directory goes on where an earlier call stopped, and answers
            another budget from the trials already there.
        config: Everything else; the defaults if None. Its sections `model` and `data` play no part, save that `data.mean` and
            `data.std` normalise pixels, and say of images that come normalised by what, which `predict` needs.
        protect: Modules of which nothing is cut, by path or glob, such as ``["layer1", "*.attn"]``; the configuration's if None.
        prune_only: Modules that alone may lose blocks and channels, likewise.
        example_input: For a model that takes more than one batch of pictures: ``package.module:function``, which makes its arguments
            from such a batch.
        progress: Shows how far it is; silent if None.

    Raises:
        ConfigError: A name in `protect` or `prune_only` matches no module; the nearest are named.
        DataError: The splits are unusable.
        UnsupportedModelError: The model cannot be examined, or holds NaN.
        InfeasibleBudgetError: No cut fits the budget; the smallest possible cost is named.
        ExperimentMismatchError: `out` holds a run with another configuration.
        TriaxisError: Anything else that docs/errors.md lists. Nothing that was measured is lost.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model must be a torch.nn.Module, got {type(model).__name__}: `triaxis run` takes a configuration alone.")
    budgets = [budget] if isinstance(budget, BudgetSpec | Budget | str) else list(budget)
    held: dict[str, Any] = {
        key: listed(key, given) for key, given in (("protect", protect), ("prune_only", prune_only)) if given is not None
    }
    held |= {} if example_input is None else {"example_input": example_input}
    chosen = (config or Config()).model_copy(update={"budget": tuple(_text(item) for item in budgets), **held})
    data = splits if isinstance(splits, Splits) else _from_sequence(splits, chosen)
    place = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="triaxis-"))
    wanted, settled = chosen.budgets, RunDirectory(place)
    if settled.holds_run:
        chosen = chosen.model_copy(update={"budget": settled.config().budget})
    outcome = run(chosen, place, budgets=wanted, progress=progress, model=model, splits=data)
    return Result(outcome.model, outcome.summary, outcome.solution, outcome.verification, place)


def _from_sequence(splits: Sequence[Any], config: Config) -> Splits:
    if not isinstance(splits, list | tuple) or len(splits) != 3:
        found = f"a {type(splits).__name__} of {len(splits)}" if isinstance(splits, list | tuple) else type(splits).__name__
        raise ConfigError(f"splits must be a Splits or three data sets (train, val, test), got {found}.")
    task = task_of(config)
    return from_datasets(*splits, mean=config.data.mean, std=config.data.std, task=task)


def _text(budget: BudgetSpec | Budget | str) -> str:
    if isinstance(budget, str):
        return budget
    limit = None if budget.fraction is not None else budget.limit
    return str(BudgetSpec(metric=budget.metric, limit=limit, fraction=budget.fraction))
