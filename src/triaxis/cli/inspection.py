"""What `triaxis inspect` reads and prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from triaxis.cli import show
from triaxis.cli.frame import out
from triaxis.config import load_config
from triaxis.errors import ConfigError
from triaxis.values import AXES, KeepRatios

NUM_CLASSES = 10
"""Outputs of the classifier where nobody says how many; they change little."""


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


def what_is_named(model: str, *, side_px: int | None, num_classes: int | None, weights: str | None) -> dict[str, Any]:
    """Return what `inspect_model` needs to know of a model's name or of a configuration file, which options go before.

    Raises:
        ConfigError: The file cannot be read, or is no configuration.
    """
    if Path(model).suffix not in (".yaml", ".yml"):
        return {"name": model, "side_px": side_px, "num_classes": num_classes or NUM_CLASSES, "weights": weights}
    config = load_config(model)
    return {
        "name": config.model.name,
        "args": config.model.args,
        "side_px": side_px or config.data.side_px or config.model.side_px,
        "num_classes": num_classes or config.model.num_classes or NUM_CLASSES,
        "weights": weights or config.model.weights,
    }


def print_inspection(found: Mapping[str, Any]) -> None:
    """Print what `triaxis.deliver.inspect.inspect_model` found."""
    show.rows((f"{found['model']}, {found['side_px']} px", ""), list(found["axes"].items()))
    columns = {"now": found["cost"], "smallest cut": found["smallest_cut"]["cost"]}
    if "cut" in found:
        columns["this cut"] = found["cut"]["cost"]
    show.rows(("cost", *columns), [(metric, *(show.cost(cost[metric], metric) for cost in columns.values())) for metric in found["cost"]])
    blocks = [(b["name"], b["kind"], b["stage"], "yes" if b["removable"] else "no") for b in found["blocks"]]
    show.rows(("block", "kind", "stage", "can go"), blocks)
    show.rows(("channel group", "channels"), [(group["name"], group["channels"]) for group in found["channel_groups"]])
    if found["whole_layers"]:
        show.rows(("layer that keeps its channels", "why"), list(found["whole_layers"].items()))
    out.print(f"sides: {', '.join(map(str, found['sides_px']))} px", soft_wrap=True)
    if "cut" in found:
        cut = found["cut"]
        show.rows(("axis", "target", "achieved"), [(axis, cut["target"][axis], round(cut["achieved"][axis], 3)) for axis in AXES])
        out.print(escape("\n".join(cut["plan"])), soft_wrap=True)
    for file in found.get("saved", ()):
        out.print(f"wrote {escape(file)}", soft_wrap=True)
