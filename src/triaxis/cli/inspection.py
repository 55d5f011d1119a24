"""What `triaxis inspect` reads and prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from triaxis.cli.frame import out
from triaxis.errors import ConfigError
from triaxis.values import AXES, KeepRatios


def parse_keep(text: str | None) -> KeepRatios | None:
    """Read ``depth=0.7,width=0.7,resolution=0.75``; an axis that is left out stays whole.

    Raises:
        ConfigError: The text is something else, or a ratio is outside (0, 1].
    """
    if text is None:
        return None
    pairs = [part.partition("=")[::2] for part in text.split(",")]
    try:
        return KeepRatios(**{axis.strip(): float(ratio) for axis, ratio in pairs})
    except (TypeError, ValueError):
        raise ConfigError(f"--keep must read AXIS=RATIO,... with AXIS one of {', '.join(AXES)}, got {text!r}.") from None


def print_inspection(found: Mapping[str, Any]) -> None:
    """Print plain data as a tree, whatever its keys: the data are the model's, and differ with it."""
    tree = Tree(f"[bold]{escape(str(found.get('model', 'model')))}")
    _grow(tree, {key: item for key, item in found.items() if key != "model"})
    out.print(tree)


def _grow(tree: Tree, plain: Any) -> None:
    pairs = plain.items() if isinstance(plain, Mapping) else enumerate(plain)
    for key, item in pairs:
        label = escape(str(key))
        if isinstance(item, Mapping) or (isinstance(item, list | tuple) and any(isinstance(part, Mapping) for part in item)):
            _grow(tree.add(f"[bold]{label}"), item)
        else:
            text = ", ".join(str(part) for part in item) if isinstance(item, list | tuple) else str(item)
            tree.add(f"{label}: {escape(text)}")
