"""What a run is going to train, how much, and about how long: said before anything is trained.

Effort is counted in images x MACs of the networks that are trained; what the base model looks at as a teacher is a row of its
own. Seconds are estimated from a few timed steps of two networks, the base model and a cut at the budget.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from triaxis.config import Config
from triaxis.data.images import Images
from triaxis.errors import ConfigError
from triaxis.maths.design import axis_design
from triaxis.maths.elastic import SHARE_NEAR, rows_near
from triaxis.maths.frontier import EQUAL_SPLIT, along_path
from triaxis.maths.lattice import BASE, Lattice, Levels
from triaxis.metrics.table import count_costs
from triaxis.stages.base import TIMED_TARGETS, load_parts
from triaxis.stages.effort import collect_share, images_per_epoch, recipe_images
from triaxis.stages.environment import pick_device
from triaxis.stages.forecast import TEACHER_SHARE
from triaxis.stages.task import task_of
from triaxis.surgery.surgeon import Surgeon
from triaxis.surgery.trace.inputs import called_with
from triaxis.training.mode import choose_mode
from triaxis.training.stopwatch import TaskLoss, in_turns, training_step
from triaxis.training.teacher import Teacher
from triaxis.values import Budget, BudgetSpec, CostTable, KeepRatios, Recipe


@dataclass(frozen=True)
class Stage:
    """One row of a forecast: networks to train, images to train on, images x MACs, and seconds."""

    name: str
    networks: int
    images: int
    effort: float
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """What a run trains; `base_effort` is one base training, in which efforts are shown as shares."""

    stages: tuple[Stage, ...]
    base_effort: float

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    def share(self, stage: Stage) -> float:
        """Return a stage's effort in shares of base training."""
        return stage.effort / self.base_effort

    def to_plain(self) -> dict[str, object]:
        """Return plain JSON data."""
        rows = [{**vars(stage), "share_of_base_training": self.share(stage)} for stage in self.stages]
        return {"stages": rows, "seconds": self.seconds, "base_training": self.base_effort}

    def effort_in(self, hours: float) -> float:
        """Return the effort, in shares of base training, that fits after the base model's training.

        Raises:
            ConfigError: The base model's training alone takes longer.
        """
        ahead = sum(stage.seconds for stage in self.stages if stage.name == "base")
        left = 3600 * hours - ahead
        if left <= 0:
            raise ConfigError(f"--hours must leave time after base training, which takes about {ahead / 3600:.2g} h here, got {hours:g}.")
        after = [stage for stage in self.stages if stage.name != "base"]
        trained = sum(stage.effort for stage in after if stage.name != "teacher")
        return trained / self.base_effort * left / sum(stage.seconds for stage in after)


def forecast_run(config: Config) -> Forecast:
    """Load the data and the model, time a few steps, and say what a run with this configuration trains.

    Raises:
        TriaxisError: The data or the model are unusable, or no cut can meet the budgets.
    """
    device, (splits, loaded) = pick_device(config), load_parts(config)
    called_with(loaded.model, config.example_input)
    train, side = splits.train, splits.train.side_px
    channels = next(iter(train.in_order(side, limit=1))).images.shape[1]
    surgeon = Surgeon.examine(
        loaded.model,
        side_px=side,
        in_channels=channels,
        # A forecast does not wait for the device: 8 is the default.
        round_to=8 if config.width.round_to == "auto" else config.width.round_to,
        min_width=config.collect.min_width,
        min_resolution=config.collect.min_resolution,
        protect=config.protect,
        prune_only=config.prune_only,
    )
    order = _any_order(surgeon)
    table = count_costs(surgeon, order, min_depth=config.collect.min_depth, in_channels=channels)
    levels, macs = _at_budget(table, config.budgets), table.base_cost("macs")
    batch = min(config.base.batch_size, 64)
    loss = TaskLoss(task_of(config), next(iter(train.in_order(side, limit=TIMED_TARGETS))).labels)
    mode, _ = choose_mode(loaded.model, (batch, channels, side, side), device, precision=config.precision, loss_of=loss)
    blocks, width, side_px = Lattice(table).place(levels)
    cut = surgeon.plan(removed_blocks=order[: table.blocks[0] - blocks], width=width, side_px=side_px)
    timed = {
        name: training_step(surgeon.cut(plan), (batch, channels, plan.side_px, plan.side_px), device, mode, loss)
        for name, plan in (("base", surgeon.identity()), ("cut", cut))
    }
    seconds = in_turns(timed, rounds=3)
    slow, fast = seconds["base"] / batch, seconds["cut"] / batch
    base = recipe_images(config.base, train)
    rows = [] if loaded.is_trained else [Stage("base", 1, base, base * macs, base * slow)]
    cost_at = Lattice(table).cost("macs", levels)
    return Forecast((*rows, *_after_base(config, train, table, cost_at, base * macs, (slow, fast))), base * macs)


def _after_base(
    config: Config, train: Images, table: CostTable, cost_at: float, base_effort: float, seconds: tuple[float, float]
) -> Iterator[Stage]:
    """Yield the stages after the base model's training; `seconds` are those of one image on the base model and on the cut."""
    macs, (slow, fast) = table.base_cost("macs"), seconds

    def time_of(images: float, cost: float) -> float:
        # A straight line through the two networks that were timed.
        return images * (fast + (slow - fast) * (cost - cost_at) / (macs - cost_at) if cost_at < macs else slow)

    collect = config.collect
    networks, images, cost = _collection(config, train, table, base_effort)
    yield Stage("collect", networks, images, images * cost, time_of(images, cost))
    epochs = config.finetune.epochs
    if config.effort is not None:
        left = config.effort * base_effort - images * cost
        epochs = max(1, int(left / (images_per_epoch(config.finetune, train) * cost_at)))
    final = epochs * images_per_epoch(config.finetune, train)
    yield Stage("fine-tune", 1, final, final * cost_at, time_of(final, cost_at))
    if collect.method == "elastic":
        looked = _looks(collect.shared, images, train, collect.views * len(train))
    else:
        looked = _looks(collect.recipe, images, train, recipe_images(collect.recipe, train))
    looked += _looks(config.finetune, final, train, 0)
    yield Stage("teacher", 0, looked, TEACHER_SHARE * looked * macs, TEACHER_SHARE * looked * slow)


def _collection(config: Config, train: Images, table: CostTable, base_effort: float) -> tuple[int, int, float]:
    """Return the networks that collecting measures, the images it trains on, and the mean MACs of what it trains."""
    collect, lattice = config.collect, Lattice(table)
    share = lattice.costs("macs")
    low = KeepRatios(depth=collect.min_depth, width=collect.min_width, resolution=collect.min_resolution)
    if collect.method == "chains":
        trials = axis_design(table, num_trials=collect.num_trials, min_ratios=low)
        costs = [lattice.cost("macs", levels) for _, levels in trials]
        num = collect.num_trials + collect.off_axis if costs else 0
        return num, num * recipe_images(collect.recipe, train), sum(costs) / max(1, len(costs))
    limits = [(b.metric, b.limit) for b in _counted(table, config.budgets)]
    near = rows_near(table, limits, min_ratios=low) if limits else lattice.rows_above(low)[:0]
    mean = share[lattice.rows_above(low)].mean()
    cost = float(SHARE_NEAR * share[near].mean() + (1 - SHARE_NEAR) * mean if len(near) else mean)
    per_epoch = images_per_epoch(collect.shared, train)
    epochs = max(1, int(collect_share(config) * base_effort / cost / per_epoch))
    return collect.num_cuts, epochs * per_epoch, cost


def _looks(recipe: Recipe, images: int, train: Images, remembered: int) -> int:
    """Return the images that the teacher looks at for so many training images: each of `remembered` once, where it can."""
    if recipe.distill == 0:
        return 0
    return min(images, remembered) if remembered and Teacher.remembers(train, recipe) else images


def _counted(table: CostTable, specs: Iterable[BudgetSpec]) -> list[Budget]:
    """Return the budgets in metrics that need no measuring; a share of another one counts as that share of the MACs."""
    found = []
    for spec in specs:
        if spec.metric in table.costs:
            found.append(spec.resolve(table.base_cost(spec.metric)))
        elif spec.fraction is not None:
            found.append(Budget(metric="macs", limit=spec.fraction * table.base_cost("macs"), fraction=spec.fraction))
    return found


def _at_budget(table: CostTable, specs: Iterable[BudgetSpec]) -> Levels:
    """Return a cut at the strictest budget, all axes cut alike: where the final fine-tune will be, more or less."""
    cuts = [along_path(table, budget, EQUAL_SPLIT) for budget in _counted(table, specs)]
    return min(cuts, key=functools.partial(Lattice(table).cost, "macs"), default=BASE)


def _any_order(surgeon: Surgeon) -> tuple[str, ...]:
    """Return an order of removal that takes the last block of the longest stage first; which go first is not known yet."""
    order: tuple[str, ...] = ()
    stage = {b.name: b.stage for b in surgeon.anatomy.blocks}
    while left := surgeon.removable(surgeon.plan(removed_blocks=order)):
        size = {name: sum(stage[other] == stage[name] for other in left) for name in left}
        order = (*order, max(reversed(left), key=lambda name: size[name]))
    return order
