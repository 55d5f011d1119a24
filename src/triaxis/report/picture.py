"""Records -> one static SVG: the frontier with the chosen cut against cutting one axis only. For a README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triaxis.errors import ConfigError
from triaxis.report.figures import CostPoint, Frontier, frontier_figure
from triaxis.report.html import templates
from triaxis.report.plots import COLORS
from triaxis.report.records import Records
from triaxis.report.words import METRIC_NAMES, headline, percent
from triaxis.store.files import write_text

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 64, 26, 66, 56
_LABEL_STEP = 19
_DASHES = {"depth": "8 5", "width": "2 4", "resolution": "9 4 2 4"}


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
    return write_text(path, render_picture(found, headline(records)))


def render_picture(found: Frontier, title: str) -> str:
    """Return the SVG's text."""
    scale = _scale(found)
    picture = {
        "width": WIDTH,
        "height": HEIGHT,
        "area": {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM},
        "title": title,
        "metric": METRIC_NAMES[found.metric],
        "x_ticks": [(scale.left(v), percent(v, 0)) for v in _ticks(scale.x, 0.1)],
        "y_ticks": [(scale.top(v), percent(v, 0)) for v in _ticks(scale.y, _step(scale.y))],
        "band": _band(found, scale),
        "curve": scale.line(found.curve),
        "axes": [(axis, scale.line(points), COLORS[axis], _DASHES[axis]) for axis, points in found.axes.items()],
        "budget": scale.left(found.budget.limit / found.base_cost) if found.budget else None,
        "marks": _marks(found, scale),
    }
    return templates().get_template("picture.svg.html").render(picture)


def _scale(found: Frontier) -> _Scale:
    points = [*found.curve, *(r.point for r in found.rivals if r.point), *((found.chosen,) if found.chosen else ())]
    fractions, accuracies = [p.fraction for p in points], [p.accuracy for p in points]
    if found.measured:
        fractions, accuracies = [*fractions, found.measured[0]], [*accuracies, found.measured[1]]
    reach = max(accuracies) - min(accuracies) or 0.01
    return _Scale((min(fractions) - 0.03, 1.02), (min(accuracies) - 0.06 * reach, max(accuracies) + 0.10 * reach))


def _step(ends: tuple[float, float]) -> float:
    return next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 1.0) if (ends[1] - ends[0]) / step <= 8)


def _ticks(ends: tuple[float, float], step: float) -> list[float]:
    return [float(v) for v in np.arange(np.ceil(ends[0] / step), ends[1] / step) * step]


def _band(found: Frontier, scale: _Scale) -> str:
    low, high = scale.y
    upper = [f"{scale.left(p.fraction)},{scale.top(min(p.high, high))}" for p in found.curve]
    lower = [f"{scale.left(p.fraction)},{scale.top(max(p.low, low))}" for p in reversed(found.curve)]
    return " ".join([*upper, *lower])


def _marks(found: Frontier, scale: _Scale) -> list[dict[str, object]]:
    """Markers with labels beside them, pushed apart so that no two labels overlap; lowest accuracy last."""
    rivals = [(r.name, r.point.fraction, r.point.accuracy, COLORS[r.name.removesuffix(" only")]) for r in found.rivals if r.point]
    if found.chosen:
        rivals.append(("all three axes, predicted", found.chosen.fraction, found.chosen.accuracy, "#1f4e8c"))
    if found.measured:
        rivals.append(("delivered model, measured", *found.measured, "#0b7a4b"))
    marks: list[dict[str, object]] = []
    label = 0.0
    for name, fraction, accuracy, color in sorted(rivals, key=lambda r: -r[2]):
        label = max(scale.top(accuracy) + 4, label + _LABEL_STEP)
        place = {"x": scale.left(fraction), "y": scale.top(accuracy), "label_y": label}
        marks.append({"name": f"{name} {percent(accuracy)}", "color": color, "is_open": "measured" in name, **place})
    return marks
