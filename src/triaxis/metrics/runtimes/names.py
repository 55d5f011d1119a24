"""The name of a runtime, with its parts: ``onnxruntime``, ``onnxruntime-1t`` (threads), ``onnxruntime-int8-4t`` (precision too).

The name says all that decides the latency, so that budgets on several runtimes can stand side by side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from triaxis.errors import ConfigError
from triaxis.plugins import installed

_THREADS = re.compile(r"([1-9]\d{0,3})t")


@dataclass(frozen=True)
class RuntimeName:
    """A name taken apart: `plain` is a runtime of the box; None leaves threads or precision to the runtime."""

    plain: str
    threads: int | None = None
    precision: str | None = None


def is_in_box(name: str, box: Iterable[str]) -> bool:
    """Whether a name is meant for the box: its first word is there, and no installed or own part has the whole name."""
    return ":" not in name and name not in installed("runtime") and name.partition("-")[0] in box


def parse_runtime(name: str, box: Mapping[str, tuple[str, ...]], *, setting: str) -> RuntimeName:
    """Take the name of a runtime of the box apart.

    Args:
        name: Such as ``openvino-4t`` or ``onnxruntime-int8``; the order of the parts is free.
        box: The precisions that each runtime in the box can compute in, its usual one first.
        setting: The setting that holds the name, for the error.

    Raises:
        ConfigError: The runtime does not take one of the parts; those that it takes are named.
    """
    plain, *parts = name.split("-")
    threads, precision = None, None
    for part in parts:
        if (match := _THREADS.fullmatch(part)) and threads is None:
            threads = int(match[1])
        elif part in box[plain] and precision is None:
            precision = part
        else:
            choice = " or ".join(f"-{name}" for name in box[plain][1:])
            raise ConfigError(
                f"{setting} must name a runtime with parts that it takes, once each, got {name!r}: {plain} takes "
                f"threads such as -1t or -4t{f', and the precision {choice}' if choice else ''}."
            )
    return RuntimeName(plain, threads, precision)
