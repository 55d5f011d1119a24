"""Records -> one static SVG: the frontier with the chosen cut against cutting one axis only. For a README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triaxis.errors import ConfigError
from triaxis.report.draw import DASHES, INKS, SHAPES, shape_of
from triaxis.report.figures import CostPoint, Frontier, frontier_figure, frontier_view, stairs
from triaxis.report.records import Records
from triaxis.report.templates import templates
from triaxis.report.words import headline, percent
from triaxis.store.files import write_text
from triaxis.values import metric_spec
from triaxis.values.score import said

WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 64, 26, 66, 56
CHOSEN, MEASURED = INKS["chosen"][0], INKS["measured"][0]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps cost fractions and accuracies to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]

    def left(self, fraction: float) -> float:
        low, high = self.x
        return round(LEFT + (fraction - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def top(self, accuracy: float) -> float:
        low, high = self.y
        return round(HEIGHT - BOTTOM - (accuracy - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def line(self, points: Sequence[CostPoint]) -> str:
        return " ".join(f"{self.left(p.fraction)},{self.top(p.accuracy)}" for p in points)


def write_picture(records: Records, path: str | Path) -> Path:
    """Draw accuracy against cost as an SVG file, whole or not at all; return its path.

    Raises:
        ConfigError: The path does not end in .svg, or the run has no predictor yet.
        StoreError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".svg":
        raise ConfigError(f"A picture must be an .svg file, got {path.name!r}: give a path such as picture.svg.")
    found = frontier_figure(records)
    if found is None:
        raise ConfigError("A picture needs a fitted accuracy predictor and costs, but the run has none yet: run triaxis fit RUN first.")
    return write_text(path, said(render_picture(found, headline(records)), records.score))


def render_picture(found: Frontier, title: str) -> str:
    """Return the SVG's text."""
    scale = _Scale(*frontier_view(found))
    picture = {
        "width": WIDTH,
        "height": HEIGHT,
        "area": {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM},
        "title": title,
        "metric": metric_spec(found.metric).title,
        "x_ticks": [(scale.left(v), percent(v, 0)) for v in _ticks(scale.x, 0.1)],
        "y_ticks": [(scale.top(v), percent(v, 1 if _step(scale.y) < 0.01 else 0)) for v in _ticks(scale.y, _step(scale.y))],
        "band": _band(found, scale),
        "budget": scale.left(found.budget.limit / found.base_cost) if found.budget else None,
        "entries": _entries(found, scale),
    }
    return templates().get_template("picture.svg.html").render(picture)


def _step(ends: tuple[float, float]) -> float:
    return next(step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0) if (ends[1] - ends[0]) / step <= 8)


def _ticks(ends: tuple[float, float], step: float) -> list[float]:
    return [float(v) for v in np.arange(np.ceil(ends[0] / step), ends[1] / step) * step]


def _band(found: Frontier, scale: _Scale) -> str:
    low, high = scale.y
    upper = [f"{scale.left(p.fraction)},{scale.top(min(p.high, high))}" for p in found.drawn]
    lower = [f"{scale.left(p.fraction)},{scale.top(max(p.low, low))}" for p in reversed(found.drawn)]
    return " ".join([*upper, *lower])


def _entries(found: Frontier, scale: _Scale) -> list[dict[str, object]]:
    """What is drawn and explained, in the order of the key: a line, a marker, or both, each with its accuracy."""
    entries = [_entry("all three axes, predicted", CHOSEN, scale, found.drawn, found.chosen) | {"thick": True, "shape": SHAPES["diamond"]}]
    points = {f"{axis} only": line for axis, line in found.axes.items()}
    rivals = {r.name: r.point for r in found.rivals}
    for name in dict.fromkeys((*points, *rivals)):
        entry = _entry(name, INKS[_ink(name)][0], scale, points.get(name, ()), rivals.get(name))
        entries.append(entry | {"amount": entry["amount"] or ("cannot" if found.chosen else "")})
    if found.measured:
        fraction, accuracy = found.measured
        entry = _entry("delivered, measured", MEASURED, scale, (), None)
        place = (scale.left(fraction), scale.top(accuracy))
        entries.insert(0, entry | {"place": place, "shape": SHAPES["diamond"], "is_open": True, "amount": percent(accuracy)})
    return entries


def _entry(name: str, color: str, scale: _Scale, line: Sequence[CostPoint], point: CostPoint | None) -> dict[str, object]:
    return {
        "name": name,
        "color": color,
        "line": scale.line(stairs(line)) if line else "",
        "dash": DASHES.get(_ink(name), ""),
        "thick": False,
        "shape": SHAPES[shape_of(_ink(name))],
        "is_open": False,
        "place": (scale.left(point.fraction), scale.top(point.accuracy)) if point else None,
        "amount": percent(point.accuracy) if point else "",
    }


def _ink(name: str) -> str:
    return name.removesuffix(" only").replace(" ", "-")
