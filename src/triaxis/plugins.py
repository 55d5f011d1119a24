"""Parts that the outside adds: named as ``package.module:Name`` by the user's own configuration, or by an entry point.

    kind       entry point group      what it is
    task       triaxis.tasks          loss, score and output check: `triaxis.tasks.base.Task`
    metric     triaxis.metrics        how a cut's cost is counted or measured: `triaxis.metrics.base.Metric`
    runtime    triaxis.runtimes       what runs a model when it is timed: `triaxis.metrics.runtimes.base.Runtime`
    criterion  triaxis.criteria       scores of channels: `triaxis.surgery.criteria.base.Criterion`
    listener   triaxis.listeners      hears how far a run is: `triaxis.progress.Listener`

Nothing else is ever imported: neither from a plan nor from weights.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from triaxis.errors import ConfigError


def import_named(name: str, *, setting: str) -> Any:
    """Return what ``package.module:Name`` names, looked up as Python does, and in the current directory.

    Args:
        name: Of the user's own class or function.
        setting: The setting that holds it, for the error.

    Raises:
        ConfigError: It cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{setting} must name an importable package.module:Name, got {name!r}: {error}.") from None


def installed(kind: str) -> dict[str, Callable[[], Any]]:
    """Return what other packages offer for a kind of part, by name, each with the call that loads it."""
    group = {"criterion": "triaxis.criteria"}.get(kind, f"triaxis.{kind}s")
    return {point.name: point.load for point in entry_points(group=group)}


def require_known(kind: str, name: str, box: Iterable[str], *, setting: str) -> None:
    """Check that a name can be a part's, without importing anything.

    Args:
        kind: As for `find_part`.
        name: A name of the box, of an entry point, or ``package.module:Name``.
        box: The names of the parts that triaxis brings.
        setting: The setting that holds the name, for the error.

    Raises:
        ConfigError: There is no such part; the nearest names are given.
    """
    box = tuple(box)
    if name in box or ":" in name:
        return
    known = sorted({*box, *installed(kind)})
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}, and package.module:Name of your own."
    raise ConfigError(f"{setting} must name a {kind}, got {name!r}: {hint}")


def find_part(kind: str, name: str, box: Mapping[str, Any], *, setting: str) -> Any:
    """Return the class or function that makes a part: from the box, from an entry point, or the user's own.

    Args:
        kind: ``task``, ``metric``, ``runtime``, ``criterion`` or ``listener``.
        name: A name of the box, of an entry point, or ``package.module:Name``.
        box: The parts that triaxis brings, by name.
        setting: The setting that holds the name, for the error.

    Raises:
        ConfigError: There is no such part; the nearest names are given.
    """
    if name in box:
        return box[name]
    if ":" in name:
        return import_named(name, setting=setting)
    require_known(kind, name, box, setting=setting)
    return installed(kind)[name]()
