"""One measured point: how it is trained, what is asked for, what came of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from triaxis.values.base import Value, digest, require
from triaxis.values.plan import KeepRatios, PrunePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Value):
    """How a network is trained or fine-tuned.

    `epochs` counts passes over the train split; `average_last` is the share of the steps, at the end, whose weights
    are averaged exponentially; `distill` in [0, 1] is the share of the loss that is distillation from the base model.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    peak_lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    label_smoothing: float = 0.0
    distill: float = 0.0
    temperature: float = 4.0
    average_last: float = 0.0
    clip_norm: float = 5.0
    crop_px: int = 4
    flip: bool = True
    randaugment: str = ""
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        require(self.epochs >= 0, f"epochs must be 0 or more, got {self.epochs}.")
        require(self.batch_size >= 2, f"batch_size must be 2 or more, got {self.batch_size}.")
        require(0 < self.peak_lr < math.inf, f"peak_lr must be above 0 and finite, got {self.peak_lr}.")
        for name in ("warmup", "distill", "average_last", "label_smoothing", "momentum"):
            ratio = getattr(self, name)
            require(0 <= ratio <= 1, f"{name} must be in [0, 1], got {ratio}.")
        for name in ("weight_decay", "mixup", "cutmix", "clip_norm", "crop_px"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}.")
        require(self.temperature > 0, f"temperature must be above 0, got {self.temperature}.")
        require(
            not self.randaugment or re.fullmatch(r"[1-9]\d*,([12]?\d|30)", self.randaugment) is not None,
            "randaugment must read OPERATIONS,MAGNITUDE, such as 2,9, with a magnitude of at most 30, or be empty, "
            f"got {self.randaugment!r}.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec(Value):
    """One point to measure. `trial_id` is the hash of the canonical JSON, so that equal specs are one trial."""

    target: KeepRatios
    axis: Literal["base", "depth", "width", "resolution", "joint"]
    parent: str | None = None
    recipe: Recipe
    seed: int
    base_digest: str
    data_digest: str

    @property
    def trial_id(self) -> str:
        """16 hexadecimal characters."""
        return digest(self.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended(Value):
    """A trial that has ended. `seconds` is its wall time, `seconds_by_part` what of it each of `walltime.PARTS` took."""

    spec: TrialSpec
    seconds: float = 0.0
    seconds_by_part: dict[str, float] = field(default_factory=dict)

    @property
    def trial_id(self) -> str:
        """The id of the trial's spec."""
        return self.spec.trial_id


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneTrial(_Ended):
    """What one trial gave.

    `val_interval` is the 95 % interval of `val_accuracy`, as the task gives it; trials of version 0.1 have none.
    `train_macs` is the trial's training effort: images seen in training x MACs of the trained network. `checkpoint` is the file
    of its weights, from the run directory; a trial measured with shared weights has none.
    """

    state: Literal["done"] = "done"
    plan: PrunePlan
    val_accuracy: float
    val_interval: tuple[float, float] | None = None
    val_loss: float
    macs: int
    params: int
    train_macs: float = 0.0
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        require(self.state == "done", f"A finished trial must have the state done, got {self.state!r}.")
        require(0 <= self.val_accuracy <= 1, f"val_accuracy must be in [0, 1], got {self.val_accuracy}.")

    @property
    def achieved(self) -> KeepRatios:
        """The keep ratios that were measured, which are not always those asked for."""
        return self.plan.achieved


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTrial(_Ended):
    """A trial that gave no accuracy; `error` is the traceback, or the reason."""

    state: Literal["failed"] = "failed"
    error: str = ""

    def __post_init__(self) -> None:
        require(self.state == "failed", f"A failed trial must have the state failed, got {self.state!r}.")

    @property
    def reason(self) -> str:
        """The last line of the error."""
        return self.error.strip().rpartition("\n")[2] or "unknown"


TrialResult = DoneTrial | FailedTrial
"""What came of one trial."""


def trial_result(plain: dict[str, Any]) -> TrialResult:
    """Return the result that `to_json` wrote, here or in an older version, which kept the fields of both kinds, some of them null.

    Raises:
        ConfigError: The schema number or the fields are not those of a result.
    """
    known = {key: item for key, item in plain.items() if item is not None}
    if known.get("state") == "failed":
        return FailedTrial.from_json({key: item for key, item in known.items() if key != "train_macs"})
    return DoneTrial.from_json(known)


def done_trials(results: Iterable[TrialResult]) -> list[DoneTrial]:
    """Return the results of the trials that gave an accuracy, in their order."""
    return [result for result in results if isinstance(result, DoneTrial)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Value):
    """One measured accuracy in [0, 1] at given keep ratios; `weight` is its inverse variance relative to the others'."""

    ratios: KeepRatios
    accuracy: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.accuracy <= 1, f"accuracy must be in [0, 1], got {self.accuracy}.")
        require(self.weight > 0 and math.isfinite(self.weight), f"weight must be above 0, got {self.weight}.")
