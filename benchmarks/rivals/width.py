"""Width alone, by torch-pruning, called as its users call it: one pruner on the trained network, the classifier ignored."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

STEPS = 512
SPARSE_REG = 5e-4
"""The strength of the sparse regularisation in torch-pruning's own CIFAR recipe."""


@dataclass(frozen=True)
class Criterion:
    """How channels are ranked: uniformly in each group or over all groups; `is_sparse` asks for regularised training first."""

    importance: str
    is_global: bool
    is_sparse: bool = False


CRITERIA = {
    "width_l2": Criterion("magnitude", is_global=False),
    "width_l2_global": Criterion("magnitude", is_global=True),
    "width_bn": Criterion("bn_scale", is_global=True),
    "width_group_norm": Criterion("group_norm", is_global=True, is_sparse=True),
}


def pruner_for(model: nn.Module, criterion: Criterion, ratio: float, input_shape: Sequence[int], num_classes: int) -> Any:
    """Return torch-pruning's pruner that removes `ratio` of the channels of `model` at its first step."""
    importance = {
        "magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "bn_scale": lambda: tp.importance.BNScaleImportance(),
        # Normalised by the largest score, as its authors do on CIFAR.
        "group_norm": lambda: tp.importance.GroupMagnitudeImportance(p=2, normalizer="max"),
    }[criterion.importance]()
    kind, extra = tp.pruner.BasePruner, {}
    if criterion.is_sparse:
        kind, extra = tp.pruner.GroupNormPruner, {"reg": SPARSE_REG}
    return kind(
        model,
        torch.randn(2, *input_shape),
        importance,
        global_pruning=criterion.is_global,
        pruning_ratio=ratio,
        ignored_layers=[classifier(model, num_classes)],
        # The library's default dictionaries are shared between pruners.
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
        **extra,
    )


def classifier(model: nn.Module, num_classes: int) -> nn.Module:
    """Return the last layer with one output for each class."""
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == num_classes][-1]


def prune_width(
    base: nn.Module, criterion: Criterion, ratio: float, input_shape: Sequence[int], num_classes: int
) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return a pruned copy of `base`, and the history from which `replay` makes it again."""
    model = copy.deepcopy(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = pruner_for(model, criterion, ratio, input_shape, num_classes)
        pruner.step()
    history = tuple((name, bool(is_out), [int(i) for i in indices]) for name, is_out, indices in pruner.pruning_history())
    return model, history


def replay(base: nn.Module, history: Sequence[Any], input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Return a copy of `base` with the shape that a history gives."""
    model = copy.deepcopy(base)
    pruner = pruner_for(model, CRITERIA["width_l2"], 0.0, input_shape, num_classes)
    pruner.load_pruning_history([tuple(step) for step in history])
    return model


@contextmanager
def sparse_regularisation(model: nn.Module, criterion: Criterion, input_shape: Sequence[int], num_classes: int) -> Iterator[None]:
    """Add the pruner's regularisation to the gradients before every optimiser step, so that the common training loop serves."""
    pruner = pruner_for(model, criterion, 0.0, input_shape, num_classes)
    handle = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: pruner.regularize(model))
    try:
        yield
    finally:
        handle.remove()
