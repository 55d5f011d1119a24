"""The configuration of a run: the tree of settings with all default numbers, its reading, and its text for people."""

from __future__ import annotations

from triaxis.config.keys import config_diff, flatten, walk_keys
from triaxis.config.reading import config_from_plain, idle_settings, load_config
from triaxis.config.section import Section
from triaxis.config.tree import (
    BASE_RECIPE,
    COLLECT_RECIPE,
    DATA_KINDS,
    FINETUNE_RECIPE,
    BaseRecipe,
    CollectConfig,
    Config,
    DataConfig,
    ExportConfig,
    ModelConfig,
)

__all__ = [
    "BASE_RECIPE",
    "COLLECT_RECIPE",
    "DATA_KINDS",
    "FINETUNE_RECIPE",
    "BaseRecipe",
    "CollectConfig",
    "Config",
    "DataConfig",
    "ExportConfig",
    "ModelConfig",
    "Section",
    "config_diff",
    "config_from_plain",
    "flatten",
    "idle_settings",
    "load_config",
    "walk_keys",
]
