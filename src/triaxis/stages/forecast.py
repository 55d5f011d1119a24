"""What a run has to do, before it knows: efforts of its stages, for the time left. Rough, and shown with a ~."""

from __future__ import annotations

from collections.abc import Callable

from triaxis.config import Config
from triaxis.stages.effort import collect_share
from triaxis.values import Recipe

TEACHER_SHARE = 1 / 3
"""A forward pass costs about a third of a training step (forward, and backward for weights and for inputs)."""

OVERHEAD = 0.1
"""What a training costs besides its arithmetic, as a share of the base model's: loading, evaluation, calibration."""

JOINT_SHARE = 0.3
"""A trial's MACs over the base model's, where it cuts several axes."""


def effort(recipe: Recipe, macs_share: float, *, is_taught: bool = False) -> float:
    """Return what a training costs, in epochs of the base model.

    Args:
        recipe: How it is trained.
        macs_share: MACs of the network over the base model's, in (0, 1].
        is_taught: The base model looks at every picture too.
    """
    teacher = TEACHER_SHARE * recipe.epochs if is_taught and recipe.distill > 0 else 0.0
    return (recipe.epochs + OVERHEAD) * (macs_share + OVERHEAD) + teacher


def forecast(config: Config, is_remembered: Callable[[Recipe], bool] = lambda recipe: True) -> dict[str, float]:
    """Return the effort of each stage that trains, in epochs of the base model.

    The levels of the chains are not known yet: they are taken to be evenly spread, so that MACs are the mean of r for
    depth and of r^2 for width and resolution between the least keep ratio and 1.

    Args:
        config: What will be run.
        is_remembered: Whether one look of the base model at the pictures serves all trials with this recipe.
    """
    collect, finetune = config.collect, config.finetune
    squares = [(1 + least + least**2) / 3 for least in (collect.min_width, collect.min_resolution)]
    mean = ((1 + collect.min_depth) / 2 + sum(squares)) / 3
    wanted = [budget.fraction for budget in config.budgets if budget.metric == "macs" and budget.fraction]
    final = effort(finetune, min(wanted, default=0.5), is_taught=not is_remembered(finetune))
    if config.effort is not None:
        final = max(0.0, config.effort - collect_share(config)) * config.base.epochs
    if collect.method == "elastic":
        measured = OVERHEAD * mean * collect.num_cuts
        return {"base": effort(config.base, 1.0), "collect": collect_share(config) * config.base.epochs + measured, "prune": final}
    is_taught = not is_remembered(collect.recipe)
    one, joint = (effort(collect.recipe, share, is_taught=is_taught) for share in (mean, JOINT_SHARE))
    num_between = collect.num_trials // 3
    return {
        "base": effort(config.base, 1.0),
        "collect": one * (collect.num_trials - num_between),
        "between": one * num_between,
        "refine": joint * collect.off_axis,
        "prune": final,
    }
