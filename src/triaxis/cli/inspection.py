"""What `triaxis inspect` reads and prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from triaxis.cli import show
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
    """Print what `triaxis.deliver.inspect.inspect_model` found."""
    show.rows((f"{found['model']}, {found['side_px']} px", ""), list(found["axes"].items()))
    columns = {"now": found["cost"], "smallest cut": found["smallest_cut"]["cost"]}
    if "cut" in found:
        columns["this cut"] = found["cut"]["cost"]
    show.rows(("cost", *columns), [(metric, *(show.cost(cost[metric], metric) for cost in columns.values())) for metric in found["cost"]])
    blocks = [(b["name"], b["kind"], b["stage"], "yes" if b["removable"] else f"no: {b['why']}") for b in found["blocks"]]
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
