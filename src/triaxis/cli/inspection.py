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


def what_is_named(model: str, **options: Any) -> dict[str, Any]:
    """Return what `inspect_model` needs to know of a model's name or of a configuration file.

    Args:
        model: The name, or the file.
        options: Arguments of `inspect_model` that go before what the file says; None where they were not given.

    Raises:
        ConfigError: The file cannot be read, or is no configuration.
    """
    given = {name: option for name, option in options.items() if option is not None}
    if Path(model).suffix not in (".yaml", ".yml"):
        return {"name": model, **given}
    config = load_config(model)
    chosen = config.model
    known = {
        "args": chosen.args,
        "side_px": config.data.side_px or chosen.side_px,
        "weights": chosen.weights,
        "protect": config.protect,
        "prune_only": config.prune_only,
        "example_input": config.example_input,
    }
    # Where the file leaves the number of classes to the data, the default will do: it changes little.
    classes = {"num_classes": chosen.num_classes} if chosen.num_classes else {}
    return {"name": chosen.name, **known, **classes, **given}


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
