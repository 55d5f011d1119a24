"""Keep what a model says about itself true after a cut: input size, number of features, feature table."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

SIZE_KEYS = ("input_size", "test_input_size", "min_input_size")


def correct_metadata(model: nn.Module, base: nn.Module, side_px: int, base_side_px: int, channels: Callable[[str], int | None]) -> None:
    """Correct timm's ``pretrained_cfg``/``default_cfg``, ``num_features`` and ``feature_info``, and detectors' transforms, in place.

    Args:
        model: The cut model.
        base: The model it was cut from.
        side_px: Side of the cut model's input.
        base_side_px: Side of the base model's input.
        channels: Gives the channels that a module's output has after the cut, or None if that is not known.
    """
    for name in ("pretrained_cfg", "default_cfg"):
        config = vars(model).get(name)
        if config is not None and side_px != base_side_px:
            setattr(model, name, _resized(config, side_px))
    for transform in model.modules():
        if isinstance(transform, GeneralizedRCNNTransform):
            transform.min_size, transform.max_size, transform.fixed_size = (side_px,), side_px, (side_px, side_px)
    table = vars(model).get("feature_info")
    if isinstance(table, list) and all(isinstance(row, dict) and "module" in row for row in table):
        model.feature_info = [{**row, "num_chs": channels(row["module"]) or row["num_chs"]} for row in table]  # type: ignore[assignment]
    changed = _changed_features(model, base)
    for name in ("num_features", "head_hidden_size"):
        old = vars(model).get(name)
        if isinstance(old, int) and old in changed:
            setattr(model, name, changed[old])


def _resized(config: Any, side_px: int) -> Any:
    if isinstance(config, dict):
        return {**config, **{key: _square(config[key], side_px) for key in SIZE_KEYS if config.get(key)}}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        known = {f.name for f in dataclasses.fields(config)}
        return dataclasses.replace(
            config, **{key: _square(getattr(config, key), side_px) for key in SIZE_KEYS if key in known and getattr(config, key)}
        )
    return copy.copy(config)


def _square(size: Any, side_px: int) -> tuple[int, ...]:
    return (*tuple(size)[:-2], side_px, side_px)


def _changed_features(model: nn.Module, base: nn.Module) -> dict[int, int]:
    """Return {old: new} input features of the last linear or convolution layer, the classifier."""
    layers = [path for path, m in base.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        return {}
    old, new = (_inputs(m.get_submodule(layers[-1])) for m in (base, model))
    return {old: new} if old != new else {}


def _inputs(layer: nn.Module) -> int:
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)  # type: ignore[arg-type]
