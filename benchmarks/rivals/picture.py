"""The results as one SVG: accuracy against MACs, a line for each arm, bars for the spread over seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

from rivals.profiles import PAID
from rivals.results import LABELS, Average, average, budgets_of, label

INK, QUIET, GRID, CHOSEN = "#1f2933", "#52606d", "#e4e7eb", "#1f4e8c"
COLORS = {"depth": "#b45309", "width": "#0f766e", "resolution": "#7c3aed"}

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 64, 330, 66, 56
STYLES = {
    "triaxis": (CHOSEN, ""),
    "width_l2": (COLORS["width"], ""),
    "width_l2_global": (COLORS["width"], "7 4"),
    "width_bn": (COLORS["width"], "2 3"),
    "width_group_norm": (COLORS["width"], "9 3 2 3"),
    "width": (COLORS["width"], ""),
    "depth": (COLORS["depth"], "7 4"),
    "resolution": (COLORS["resolution"], "7 4"),
    "equal_split": (QUIET, ""),
    "compound": (QUIET, "7 4"),
    "scratch": ("#be185d", ""),
    "scratch_same_macs": ("#be185d", "7 4"),
}


@dataclass(frozen=True)
class Spot:
    """One arm at one budget."""

    macs: float
    accuracy: Average


@dataclass(frozen=True)
class View:
    """Maps MACs fractions and accuracies to pixels."""

    low: float
    high: float
    right: float

    def x(self, macs: float) -> float:
        """Return the place of a MACs fraction."""
        return round(LEFT + macs / self.right * (WIDTH - LEFT - RIGHT), 1)

    def y(self, accuracy: float) -> float:
        """Return the place of an accuracy."""
        return round(HEIGHT - BOTTOM - (accuracy - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)


def spots(results: dict[str, Any], field: str) -> dict[str, list[Spot]]:
    """Return for each arm its points at the MACs budgets, by rising MACs."""
    found: dict[str, list[Spot]] = {}
    for budget in budgets_of(results):
        for arm in LABELS if budget.startswith("macs") else ():
            accuracy, macs = average(results, budget, arm, field), average(results, budget, arm, "macs_fraction")
            if accuracy and macs:
                found.setdefault(arm, []).append(Spot(macs.mean, accuracy))
    return {arm: sorted(line, key=lambda spot: spot.macs) for arm, line in found.items()}


def svg(results: dict[str, Any]) -> str:
    """Return the figure's text; it shows val accuracy until test was opened."""
    field = "test_accuracy" if spots(results, "test_accuracy") else "val_accuracy"
    found = spots(results, field)
    base = [s["base"].get(field) for s in results["seeds"] if s["base"].get(field) is not None]
    level = sum(base) / len(base) if base else None
    view = _view(found, level)
    body = [*_frame(view, f"{results['title']}: {field.replace('_', ' ')}")]
    if level is not None:
        body.append(_line(LEFT, view.y(level), WIDTH - RIGHT, view.y(level), INK, "2 4"))
        body.append(_text(LEFT + 6, view.y(level) - 6, f"base model {level:.1%}", QUIET))
    for place, (arm, line) in reversed(list(enumerate(found.items()))):
        body += _arm(arm, line, view, TOP + 10 + 24 * place)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'font-family="system-ui, -apple-system, \'Segoe UI\', Roboto, \'DejaVu Sans\', sans-serif" font-size="13" fill="{INK}">\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _view(found: dict[str, list[Spot]], level: float | None) -> View:
    values = [s.accuracy.mean + sign * (s.accuracy.spread or 0) for line in found.values() for s in line for sign in (-1, 1)]
    values += [level] if level is not None else []
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.06 * max(high - low, 0.02)
    return View(low - margin, high + margin, 1.08 * max((s.macs for line in found.values() for s in line), default=1.0))


def _frame(view: View, title: str) -> list[str]:
    parts = [f"<title>{escape(title)}</title>", f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    parts += [_text(LEFT, 28, title, INK, size=16), _text(LEFT, 50, "mean over seeds; bars: standard deviation", QUIET)]
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 1.0) if (view.high - view.low) / s <= 9)
    for k in range(math.ceil(view.low / step), math.floor(view.high / step) + 1):
        y = view.y(k * step)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, GRID), _text(LEFT - 8, y + 4, f"{100 * k * step:g} %", QUIET, anchor="end")]
    bottom = HEIGHT - BOTTOM
    for k in range(1, int(view.right / 0.1) + 1):
        x = view.x(k * 0.1)
        parts += [_line(x, bottom, x, bottom + 5, QUIET), _text(x, bottom + 20, f"{10 * k} %", QUIET, anchor="middle")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "MACs, % of the base model's", QUIET, anchor="middle"))
    return [*parts, _line(LEFT, bottom, WIDTH - RIGHT, bottom, QUIET)]


def _arm(arm: str, line: list[Spot], view: View, key_y: float) -> list[str]:
    """Draw one arm's bars, line and markers, and its entry in the key."""
    color, dash = STYLES[arm.removesuffix(PAID)]
    thick = 3.0 if arm == "triaxis" else 1.8
    places = [(view.x(s.macs), view.y(s.accuracy.mean)) for s in line]
    parts = []
    for (x, _), spot in zip(places, line, strict=True):
        if spot.accuracy.spread:
            ends = (view.y(spot.accuracy.mean + sign * spot.accuracy.spread) for sign in (-1, 1))
            parts.append(_line(x, next(ends), x, next(ends), color))
    track = " ".join(f"{x},{y}" for x, y in places)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    parts.append(f'<polyline points="{track}" fill="none" stroke="{color}" stroke-width="{thick}"{dashes}/>')
    parts += [f'<circle cx="{x}" cy="{y}" r="{1.4 * thick + 1.6:.1f}" fill="{color}" stroke="#fff"/>' for x, y in places]
    left = WIDTH - RIGHT + 18
    parts.append(_line(left, key_y, left + 34, key_y, color, dash, thick))
    return [*parts, _text(left + 44, key_y + 4, label(arm), INK)]


def _line(x1: float, y1: float, x2: float, y2: float, color: str, dash: str = "", width: float = 1.0) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" stroke-width="{width}"{dashes}/>'


def _text(x: float, y: float, text: str, color: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x}" y="{y}" fill="{color}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
