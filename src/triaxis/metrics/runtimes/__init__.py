"""Runtimes: what runs a network when its latency is measured."""

from __future__ import annotations

import torch

from triaxis.metrics.runtimes.base import Runtime
from triaxis.metrics.runtimes.onnxruntime import OnnxRuntime
from triaxis.metrics.runtimes.pytorch import Compiled, Eager
from triaxis.plugins import find_part

RUNTIMES = {kind.name: kind for kind in (Eager, Compiled, OnnxRuntime)}
"""The runtimes in the box, by name."""


def make_runtime(name: str, device: torch.device, *, setting: str = "profile.runtime") -> Runtime:
    """Return a runtime that can work here: one of the box, an installed one, or the user's own ``package.module:Name``.

    Raises:
        ConfigError: There is none of this name.
        MissingDependencyError: It needs a package that is not installed.
    """
    runtime: Runtime = find_part("runtime", name, RUNTIMES, setting=setting)(device)
    runtime.require()
    return runtime
