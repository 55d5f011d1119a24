"""The values that pass between the stages: frozen, self-checking, and equal after a trip through JSON.

A value holds numbers, strings, tuples and other values; never a module, a tensor or a data set.
``value.to_json()`` gives plain data with a ``schema`` number, ``Class.from_json(data)`` gives the value back.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
import types
import typing
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Self

from triaxis.errors import ConfigError

SCHEMA = 1

Axis = Literal["depth", "width", "resolution"]
AXES: tuple[Axis, ...] = ("depth", "width", "resolution")
Metric = Literal["macs", "params", "latency_ms", "memory_bytes"]
METRICS: tuple[Metric, ...] = ("macs", "params", "latency_ms", "memory_bytes")


def canonical_json(data: Any) -> str:
    """Return the one JSON text of plain data: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: Any) -> str:
    """Return 16 hexadecimal characters that identify plain data."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:16]


def _encode(item: Any) -> Any:
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: _encode(getattr(item, f.name)) for f in fields(item)}
    if isinstance(item, tuple | list):
        return [_encode(part) for part in item]
    if isinstance(item, dict):
        return {key: _encode(part) for key, part in item.items()}
    return item


def _decode(kind: Any, item: Any) -> Any:
    origin = typing.get_origin(kind)
    if item is None:
        return None
    if origin in (typing.Union, types.UnionType):
        chosen = [k for k in typing.get_args(kind) if k is not type(None)]
        return _decode(chosen[0], item) if len(chosen) == 1 else item
    if origin is tuple:
        inner = typing.get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_decode(inner[0], part) for part in item)
        return tuple(_decode(k, part) for k, part in zip(inner, item, strict=True))
    if origin is dict:
        return {key: _decode(typing.get_args(kind)[1], part) for key, part in item.items()}
    if isinstance(kind, type) and issubclass(kind, Value):
        return kind._from_plain(item)
    if kind is float:
        return float(item)
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Base of all values: JSON out and in."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with a ``schema`` number, from which `from_json` makes an equal value."""
        return {"schema": SCHEMA, **_encode(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the value that `to_json` wrote.

        Raises:
            ConfigError: The schema number or the fields are not this class's.
        """
        found = data.get("schema")
        if found != SCHEMA:
            raise ConfigError(
                f"{cls.__name__} must have schema {SCHEMA}, got {found!r}: the file was written by another version of triaxis."
            )
        return cls._from_plain({key: item for key, item in data.items() if key != "schema"})

    @classmethod
    def _from_plain(cls, data: dict[str, Any]) -> Self:
        kinds = typing.get_type_hints(cls)
        known = {f.name for f in fields(cls)}
        if unknown := set(data) - known:
            raise ConfigError(f"{cls.__name__} has no field {sorted(unknown)}; its fields are {sorted(known)}.")
        try:
            return cls(**{key: _decode(kinds[key], item) for key, item in data.items()})
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} cannot be read: {error}.") from None


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRatios(Value):
    """Kept / original on each axis, in (0, 1]; 1 is untouched."""

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0

    def __post_init__(self) -> None:
        for axis in AXES:
            ratio = getattr(self, axis)
            _require(0 < ratio <= 1, f"The {axis} keep ratio must be in (0, 1], got {ratio!r}.")

    def as_tuple(self) -> tuple[float, float, float]:
        """Return (depth, width, resolution)."""
        return (self.depth, self.width, self.resolution)

    def replace(self, **ratios: float) -> KeepRatios:
        """Return a copy with some axes changed."""
        return dataclasses.replace(self, **ratios)

    def __str__(self) -> str:
        return f"d={self.depth:.3f} w={self.width:.3f} r={self.resolution:.3f}"


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
        _require(self.epochs >= 0, f"epochs must be 0 or more, got {self.epochs}.")
        _require(self.batch_size >= 2, f"batch_size must be 2 or more, got {self.batch_size}.")
        _require(0 < self.peak_lr < math.inf, f"peak_lr must be above 0 and finite, got {self.peak_lr}.")
        for name in ("warmup", "distill", "average_last", "label_smoothing", "momentum"):
            ratio = getattr(self, name)
            _require(0 <= ratio <= 1, f"{name} must be in [0, 1], got {ratio}.")
        for name in ("weight_decay", "mixup", "cutmix", "clip_norm", "crop_px"):
            _require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}.")
        _require(self.temperature > 0, f"temperature must be above 0, got {self.temperature}.")
        _require(
            not self.randaugment or re.fullmatch(r"[1-9]\d*,\d+", self.randaugment) is not None,
            f"randaugment must read OPERATIONS,MAGNITUDE, such as 2,9, or be empty, got {self.randaugment!r}.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCut(Value):
    """The channels that stay in one channel group, in the base model's numbering."""

    group: str
    num_channels: int
    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        ordered = all(a < b for a, b in zip(self.kept, self.kept[1:], strict=False))
        _require(
            bool(self.kept) and ordered and self.kept[0] >= 0 and self.kept[-1] < self.num_channels,
            f"Channel group {self.group} must keep between 1 and {self.num_channels} of its channels, in order, got {self.kept}.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan(Value):
    """What to cut, as integers: blocks removed, channels kept per group, side in pixels.

    All names and numbers are the base model's, so that a plan can be applied to the base model in one go, and two
    plans of one chain can be compared. Groups that are not listed are untouched.
    """

    num_blocks: int
    removed_blocks: tuple[str, ...] = ()
    channels: tuple[ChannelCut, ...] = ()
    num_channels: int
    base_side_px: int
    side_px: int

    def __post_init__(self) -> None:
        _require(
            0 <= len(self.removed_blocks) < max(self.num_blocks, 1),
            f"A plan must keep at least one of {self.num_blocks} blocks, got {len(self.removed_blocks)} removed.",
        )
        _require(
            0 < self.side_px <= self.base_side_px,
            f"A plan's side must be in 1..{self.base_side_px} px, got {self.side_px}.",
        )

    @property
    def achieved(self) -> KeepRatios:
        """The keep ratios that the integers give."""
        dropped = sum(cut.num_channels - len(cut.kept) for cut in self.channels)
        return KeepRatios(
            depth=(self.num_blocks - len(self.removed_blocks)) / max(self.num_blocks, 1),
            width=(self.num_channels - dropped) / max(self.num_channels, 1),
            resolution=self.side_px / self.base_side_px,
        )

    @property
    def is_identity(self) -> bool:
        """Whether nothing is cut."""
        return not self.removed_blocks and self.side_px == self.base_side_px and all(len(c.kept) == c.num_channels for c in self.channels)

    def __str__(self) -> str:
        lines = [
            f"side {self.base_side_px} -> {self.side_px} px",
            f"blocks {self.num_blocks} -> {self.num_blocks - len(self.removed_blocks)}",
        ]
        lines += [f"  - {name}" for name in self.removed_blocks]
        lines += [f"  {c.group}: {c.num_channels} -> {len(c.kept)} channels" for c in self.channels]
        return "\n".join(lines)


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
class TrialResult(Value):
    """What one trial gave; a failed trial is a record too, with its traceback in `error`.

    `train_macs` is the trial's training effort: images seen in training x MACs of the trained network. `seconds` is its wall
    time, `seconds_by_part` what of it each of `triaxis.walltime.PARTS` took.
    """

    spec: TrialSpec
    state: Literal["done", "failed"]
    plan: PrunePlan | None = None
    val_accuracy: float | None = None
    val_loss: float | None = None
    macs: int | None = None
    params: int | None = None
    train_macs: float = 0.0
    seconds: float = 0.0
    seconds_by_part: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.state == "done":
            _require(self.plan is not None and self.val_accuracy is not None, "A finished trial must have a plan and a val accuracy.")
            _require(0 <= (self.val_accuracy or 0) <= 1, f"val_accuracy must be in [0, 1], got {self.val_accuracy}.")

    @property
    def trial_id(self) -> str:
        """The id of the trial's spec."""
        return self.spec.trial_id

    @property
    def achieved(self) -> KeepRatios:
        """The keep ratios that were measured, which are not always those asked for."""
        return self.plan.achieved if self.plan else self.spec.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Value):
    """One measured accuracy in [0, 1] at given keep ratios; `weight` is its inverse variance relative to the others'."""

    ratios: KeepRatios
    accuracy: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        _require(0 <= self.accuracy <= 1, f"accuracy must be in [0, 1], got {self.accuracy}.")
        _require(self.weight > 0 and math.isfinite(self.weight), f"weight must be above 0, got {self.weight}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Value):
    """An absolute upper limit on one metric: MACs and parameters of one image's pass, milliseconds, or bytes.

    ``slack(cost) = limit - cost``; feasible means slack >= 0. `fraction` is kept for display when the limit was asked
    for as a share of the base model's cost.
    """

    metric: Metric
    limit: float
    fraction: float | None = None

    def __post_init__(self) -> None:
        _require(self.metric in METRICS, f"A budget's metric must be one of {METRICS}, got {self.metric!r}.")
        _require(math.isfinite(self.limit) and self.limit > 0, f"A budget must be above 0, got {self.limit!r} {self.metric}.")

    @staticmethod
    def macs(limit: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on multiply-accumulates at batch 1, absolute or as a fraction of the base model's."""
        return BudgetSpec(metric="macs", limit=limit, fraction=fraction)

    @staticmethod
    def params(limit: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on parameters, absolute or as a fraction of the base model's."""
        return BudgetSpec(metric="params", limit=limit, fraction=fraction)

    @staticmethod
    def latency(limit_ms: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on latency at batch `profile.latency_batch`, in milliseconds or as a fraction of the base model's."""
        return BudgetSpec(metric="latency_ms", limit=limit_ms, fraction=fraction)

    @staticmethod
    def memory(limit_bytes: float | None = None, *, fraction: float | None = None) -> BudgetSpec:
        """Return a budget on weights and peak activations, in bytes or as a fraction of the base model's."""
        return BudgetSpec(metric="memory_bytes", limit=limit_bytes, fraction=fraction)

    def slack(self, cost: float) -> float:
        """Return limit - cost; 0 or more means that the cost is within budget."""
        return self.limit - cost


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec(Value):
    """A budget as its user writes it: an absolute limit, or a fraction in (0, 1] of the base model's cost."""

    metric: Metric
    limit: float | None = None
    fraction: float | None = None

    _UNITS: ClassVar[dict[str, tuple[Metric, dict[str, float]]]] = {
        "macs": ("macs", {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}),
        "params": ("params", {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}),
        "latency": ("latency_ms", {"ms": 1, "us": 1e-3, "s": 1e3}),
        "memory": ("memory_bytes", {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}),
    }

    def __post_init__(self) -> None:
        _require(self.metric in METRICS, f"A budget's metric must be one of {METRICS}, got {self.metric!r}.")
        _require((self.limit is None) != (self.fraction is None), "A budget must have either a limit or a fraction.")
        if self.fraction is not None:
            _require(
                0 < self.fraction <= 1, f"A budget must be above 0 % and at most 100 % of the base model, got {100 * self.fraction:g} %."
            )
        if self.limit is not None:
            _require(math.isfinite(self.limit) and self.limit > 0, f"A budget must be above 0, got {self.limit!r} {self.metric}.")

    @classmethod
    def parse(cls, text: str) -> BudgetSpec:
        """Read ``macs=50%``, ``macs=12M``, ``params=50%``, ``latency=3ms`` or ``memory=64MB``.

        Raises:
            ConfigError: The text is none of these.
        """
        name, equals, amount = text.strip().partition("=")
        name, amount = name.strip().lower(), amount.strip()
        if not equals or name not in cls._UNITS:
            raise ConfigError(
                f"A budget must read METRIC=AMOUNT with METRIC one of {', '.join(cls._UNITS)} (for example macs=50%), got {text!r}."
            )
        metric, units = cls._UNITS[name]
        digits = amount.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
        unit = amount[len(digits) :].strip().lower()
        try:
            number = float(digits)
        except ValueError:
            number = math.nan
        if unit == "%" and math.isfinite(number):
            return cls(metric=metric, fraction=number / 100)
        if unit not in units or not math.isfinite(number):
            shown = ", ".join(repr(u) for u in units if u)
            raise ConfigError(f"The amount of a {name} budget must be a number with '%' or one of the units {shown}, got {amount!r}.")
        return cls(metric=metric, limit=number * units[unit])

    def resolve(self, base_cost: float) -> Budget:
        """Return the absolute budget, given the base model's cost in the same metric."""
        if self.fraction is not None:
            return Budget(metric=self.metric, limit=self.fraction * base_cost, fraction=self.fraction)
        assert self.limit is not None
        return Budget(metric=self.metric, limit=self.limit, fraction=self.limit / base_cost if base_cost else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable(Value):
    """The cost of every cut on the lattice, counted or measured on real cuts.

    `blocks`, `widths` and `sides_px` are the lattice's levels, each in falling order with the base model first: blocks
    kept, target width keep ratios, and sides in pixels; `depth`, `width`, `resolution` are the achieved keep ratios of
    those levels. ``costs[metric][i][j][k]`` is the cost at levels (i, j, k), batch 1. `spread` is the relative
    uncertainty of a metric (0 for a counted one).
    """

    blocks: tuple[int, ...]
    widths: tuple[float, ...]
    sides_px: tuple[int, ...]
    depth: tuple[float, ...]
    width: tuple[float, ...]
    resolution: tuple[float, ...]
    costs: dict[str, tuple[tuple[tuple[float, ...], ...], ...]]
    spread: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.blocks), len(self.widths), len(self.sides_px))
        _require(min(shape) > 0, f"A cost table must have a level on each axis, got {shape}.")
        _require((len(self.depth), len(self.width), len(self.resolution)) == shape, "A cost table must have one keep ratio for each level.")
        for axis in AXES:
            levels = getattr(self, axis)
            falling = all(a > b for a, b in itertools.pairwise(levels))
            _require(falling and levels[-1] > 0 and levels[0] <= 1, f"The {axis} levels must fall from 1 and be in (0, 1], got {levels}.")
        for metric, cube in self.costs.items():
            found = (len(cube), len(cube[0]), len(cube[0][0]))
            _require(found == shape, f"The {metric} costs must have shape {shape}, got {found}.")

    def base_cost(self, metric: str) -> float:
        """Return the base model's cost.

        Raises:
            ConfigError: The table has no such metric.
        """
        if metric not in self.costs:
            raise ConfigError(f"The run has no {metric} costs, only {', '.join(self.costs)}: name the metric under `budget` in a new run.")
        return self.costs[metric][0][0][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousOptimum(Value):
    """The optimum over real keep ratios, before rounding to what can be cut.

    `multiplier` is the gain in accuracy per unit of log cost; `active` names the bounds that hold with equality, such as
    ``depth=max`` or the metric of a budget; `kkt_residual` is the largest violation of the Karush-Kuhn-Tucker conditions.
    """

    ratios: KeepRatios
    predicted_accuracy: float
    multiplier: float
    active: tuple[str, ...]
    kkt_residual: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution(Value):
    """The best cut on the lattice within every budget.

    `blocks`, `width` and `side_px` are the lattice's levels to cut at (blocks kept, target width keep ratio, side);
    `ratios` what they achieve; `interval` is the 90 % prediction interval; `binding` is the metric with the least
    relative slack. `status` is "unconstrained" where no budget costs accuracy, and "extrapolated" where the budgets can
    only be met at smaller keep ratios than any trial measured.
    """

    ratios: KeepRatios
    blocks: int
    width: float
    side_px: int
    predicted_accuracy: float
    interval: tuple[float, float]
    budgets: tuple[Budget, ...]
    costs: dict[str, float]
    binding: str
    status: Literal["optimal", "unconstrained", "extrapolated"]
    continuous: ContinuousOptimum | None = None

    @property
    def slack(self) -> float:
        """Limit minus cost in the binding metric; never below 0."""
        budget = next(b for b in self.budgets if b.metric == self.binding)
        return budget.slack(self.costs[self.binding])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Value):
    """The numbers of one finished network. Accuracies in [0, 1], latency by batch, in milliseconds per batch."""

    val_accuracy: float
    test_accuracy: float | None
    test_interval: tuple[float, float] | None
    macs: int
    params: int
    latency_ms: dict[str, float]
    latency_spread_ms: dict[str, float]
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Value):
    """What the delivered model really does, beside the base model and beside what was predicted.

    Intervals are 95 % (Wilson); `prediction_error` is measured minus predicted val accuracy.
    """

    base: Measured
    compressed: Measured
    predicted_accuracy: float
    prediction_error: float
    num_test: int
    device: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPredictor(Value):
    """F(depth, width, resolution), with all that a prediction and its interval need.

    `coefficients` are flat; `kind`, `degrees` (one per axis; 0 for a closed axis) and `rank` give them their meaning, see
    ``triaxis.maths.forms``. `covariance` is theirs, shape (p, p), in accuracy units; `noise` is the standard deviation of
    one measured accuracy of weight 1; `quantile` is Student's t for a 90 % interval. `domain` holds the smallest and
    largest measured keep ratio of each axis.
    """

    kind: str
    degree: int
    rank: int
    degrees: tuple[int, int, int]
    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise: float
    quantile: float
    domain: dict[str, tuple[float, float]]
    num_points: int

    def __post_init__(self) -> None:
        num = len(self.coefficients)
        _require(all(math.isfinite(c) for c in self.coefficients), "A predictor's coefficients must be finite: fit it again.")
        _require(
            len(self.covariance) == num and all(len(row) == num for row in self.covariance),
            f"A predictor's covariance must have shape ({num}, {num}).",
        )
        _require(set(self.domain) == set(AXES), f"A predictor's domain must name {AXES}, got {tuple(self.domain)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport(Value):
    """How well the predictor describes the points it was fitted to; all errors are in accuracy, measured minus predicted.

    `residuals` follow the order of the points. `leave_one_out_errors` hold one error for each *distinct* point, predicted
    without it (repeats are averaged first). `tried` maps each candidate, such as ``degree 2``, to its leave-one-out mean
    absolute error; the smallest was chosen.
    """

    kind: str
    degree: int
    rank: int
    num_points: int
    num_distinct: int
    residuals: tuple[float, ...]
    rmse: float
    leave_one_out_errors: tuple[float, ...]
    leave_one_out_mae: float
    condition_number: float
    tried: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo(Value):
    """One block that depth pruning counts.

    `kind` says why it can go: a residual block's branch adds to its input, a dense block's output is concatenated to
    what came before, and a block of a sequence keeps its input's shape. `stage` names the blocks that share a shape; one
    of them always stays. `modules` are the paths that go with the block.
    """

    name: str
    kind: Literal["residual", "sequence", "dense"]
    stage: str
    is_removable: bool
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo(Value):
    """One channel group: its name (the layer that makes the channels), its channels, and how many separate choices they hold."""

    name: str
    num_channels: int
    num_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy(Value):
    """What can be cut in one model.

    `sides_px` falls from the base model's side. ``closed[axis]`` says, in a sentence with the module's path, why an axis
    offers no choice; ``whole[layer]`` why that layer's channels all stay.
    """

    base_side_px: int
    in_channels: int
    blocks: tuple[BlockInfo, ...]
    groups: tuple[GroupInfo, ...]
    sides_px: tuple[int, ...]
    closed: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)

    @property
    def open_axes(self) -> tuple[Axis, ...]:
        """The axes that offer a choice."""
        return tuple(axis for axis in AXES if axis not in self.closed)
