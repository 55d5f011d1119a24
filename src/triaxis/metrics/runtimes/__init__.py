"""Runtimes: what runs a network when its latency is measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from triaxis.config.tree import DeviceConfig
from triaxis.errors import ConfigError
from triaxis.metrics.runtimes.base import Runtime
from triaxis.metrics.runtimes.command import CommandRuntime
from triaxis.metrics.runtimes.names import is_in_box, parse_runtime
from triaxis.metrics.runtimes.onnxruntime import OnnxRuntime
from triaxis.metrics.runtimes.openvino import OpenVino
from triaxis.metrics.runtimes.pytorch import Compiled, Eager
from triaxis.plugins import find_part

RUNTIMES = {kind.name: kind for kind in (Eager, Compiled, OnnxRuntime, OpenVino)}
"""The runtimes in the box, by name. Each is made from a device, a number of threads or None, and a precision or None."""


def make_runtime(
    name: str, device: torch.device, *, setting: str = "profile.runtime", commands: Mapping[str, DeviceConfig] | None = None
) -> Runtime:
    """Return a runtime that can work here: a command, one of the box with its parts, an installed one, or the user's own.

    Args:
        name: Such as ``eager``, ``onnxruntime-int8-1t``, ``command`` or ``package.module:Name``.
        device: Where to run, for those that run in this process.
        setting: The setting that holds the name, for the error.
        commands: What is run for each device that the configuration names.

    Raises:
        ConfigError: There is none of this name, or its command cannot be run.
        MissingDependencyError: It needs a package that is not installed.
    """
    commands = commands or {}
    runtime: Runtime
    if name in commands:
        runtime = CommandRuntime(name, commands[name])
    elif name == "command":
        raise ConfigError(
            f"{setting} is command, which needs profile.command: what to run, such as 'ssh pi python3 bench.py - {{batch}} {{side}}'."
        )
    elif is_in_box(name, RUNTIMES):
        found = parse_runtime(name, {kind.name: kind.precisions for kind in RUNTIMES.values()}, setting=setting)
        runtime = RUNTIMES[found.plain](device, found.threads, found.precision)
        runtime.name = name
    else:
        known = {**RUNTIMES, **dict.fromkeys(commands)}
        runtime = find_part("runtime", name, known, setting=setting)(device)
    runtime.require()
    return runtime
