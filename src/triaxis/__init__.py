"""triaxis: make a trained CNN as fast as you need, by pruning depth, width and input resolution together."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triaxis.api import Result, compress
    from triaxis.config import Config, load_config
    from triaxis.data.datasets import from_datasets
    from triaxis.data.images import Splits
    from triaxis.deliver.hub import push_to_hub
    from triaxis.deliver.inspect import inspect_model
    from triaxis.deliver.load import load
    from triaxis.deliver.predict import predict_files
    from triaxis.errors import TriaxisError
    from triaxis.maths.fit import fit
    from triaxis.maths.frontier import frontier
    from triaxis.maths.solve import solve
    from triaxis.surgery.surgeon import Surgeon
    from triaxis.values import Budget, KeepRatios, Point, PrunePlan, Recipe, Solution

__version__ = "0.1.0"

_HOMES = {
    "Budget": "values",
    "Config": "config",
    "KeepRatios": "values",
    "Point": "values",
    "PrunePlan": "values",
    "Recipe": "values",
    "Result": "api",
    "Solution": "values",
    "Splits": "data.images",
    "Surgeon": "surgery.surgeon",
    "TriaxisError": "errors",
    "compress": "api",
    "fit": "maths.fit",
    "from_datasets": "data.datasets",
    "frontier": "maths.frontier",
    "inspect_model": "deliver.inspect",
    "load": "deliver.load",
    "load_config": "config",
    "predict_files": "deliver.predict",
    "push_to_hub": "deliver.hub",
    "solve": "maths.solve",
}

__all__ = [
    "Budget",
    "Config",
    "KeepRatios",
    "Point",
    "PrunePlan",
    "Recipe",
    "Result",
    "Solution",
    "Splits",
    "Surgeon",
    "TriaxisError",
    "compress",
    "fit",
    "from_datasets",
    "frontier",
    "inspect_model",
    "load",
    "load_config",
    "predict_files",
    "push_to_hub",
    "solve",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `triaxis solve` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'triaxis' has no attribute {name!r}")
    return getattr(importlib.import_module(f"triaxis.{_HOMES[name]}"), name)
