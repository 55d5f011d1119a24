"""Plain numbers -> charts of a page: SVG that fills any width, needs no script and no library, and follows light and dark.

A chart is values only; `chart.html` writes it down. Horizontal and vertical places are per cent of the plot's area, so that
one drawing serves a wide screen, a telephone and paper, while its text keeps its size. Lines and marks are told apart by dash
and shape as well as by ink.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

INKS: dict[str, tuple[str, str]] = {
    "page": ("#ffffff", "#12171d"),
    "soft": ("#f5f7f9", "#1b222a"),
    "line": ("#d9dee3", "#35404b"),
    "ink": ("#1f2933", "#e6eaef"),
    "quiet": ("#52606d", "#a9b5c1"),
    "chosen": ("#1f4e8c", "#8ab8f5"),
    "measured": ("#0b7a4b", "#56cf97"),
    "depth": ("#b45309", "#f2a65a"),
    "width": ("#0f766e", "#4fd1c5"),
    "resolution": ("#7c3aed", "#bd9cff"),
    "base": ("#1f2933", "#e6eaef"),
    "joint": ("#be185d", "#f48fb6"),
    "equal-split": ("#52606d", "#a9b5c1"),
    "brown": ("#7c2d12", "#e0a184"),
    "warn": ("#8a3b12", "#f2a65a"),
    "bad": ("#8c1d18", "#ff9d94"),
}
"""Each ink on a light page and on a dark one; a page has them as CSS variables. All can be read on `page` and on `soft`."""

DASHES = {"depth": "8 5", "width": "2 4", "resolution": "9 4 2 4"}

SHAPES = {
    "circle": "M-6,0 A6,6 0 1 1 6,0 A6,6 0 1 1 -6,0 Z",
    "square": "M-5.5,-5.5 H5.5 V5.5 H-5.5 Z",
    "diamond": "M0,-7.5 L7.5,0 L0,7.5 L-7.5,0 Z",
    "down": "M-6.5,-5.5 H6.5 L0,6.5 Z",
    "up": "M-6.5,5.5 H6.5 L0,-6.5 Z",
    "cross": "M-6,-4 L-4,-6 L0,-2 L4,-6 L6,-4 L2,0 L6,4 L4,6 L0,2 L-4,6 L-6,4 L-2,0 Z",
    "plus": "M-2,-6 H2 V-2 H6 V2 H2 V6 H-2 V2 H-6 V-2 H-2 Z",
    "star": "M0,-8 L2,-2.6 L7.8,-2.5 L3.2,1 L4.9,6.6 L0,3.3 L-4.9,6.6 L-3.2,1 L-7.8,-2.5 L-2,-2.6 Z",
}
"""Outlines about (0, 0), in pixels."""

_SHAPE_OF = {"depth": "down", "width": "square", "resolution": "circle", "base": "star", "joint": "plus", "equal-split": "cross"}


def shape_of(name: str) -> str:
    """Return the shape of an axis's marks; whatever is no axis is a diamond."""
    return _SHAPE_OF.get(name, "diamond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One side of a chart, from `low` to `high` in the unit that is shown; `suffix` follows each number."""

    title: str
    low: float
    high: float
    suffix: str = ""
    max_ticks: int = 6

    def place(self, value: float) -> float:
        """Return how far along the scale a value lies, in per cent; below 0 or above 100 outside it."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round numbers on the scale, at most `max_ticks`: place in per cent, text."""
        step = next(step for step in _steps(self.high - self.low) if len(self._numbers(step)) <= self.max_ticks)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        values = [number * step for number in self._numbers(step)]
        return [(self.place(value), f"{value + 0.0:.{digits}f}{self.suffix}") for value in values]

    def _numbers(self, step: float) -> range:
        return range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)


def _steps(reach: float) -> Iterator[float]:
    """Yield 1, 2 and 5 times the powers of ten, from a hundredth of a reach upwards."""
    power = 10.0 ** math.floor(math.log10(reach / 100))
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line through points; `name` puts it into the key."""

    x: Sequence[float]
    y: Sequence[float]
    ink: str
    name: str = ""
    dash: str = ""
    width: float = 1.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What lies between two lines: an interval of each value."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    ink: str = "chosen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One value, with its interval from `low` to `high` if it has one; `says` is shown by a pointer on it and by a tap."""

    x: float
    y: float
    ink: str
    shape: str
    says: str
    name: str = ""
    interval: tuple[float, float] | None = None
    is_open: bool = False
    size: float = 1.0

    @property
    def outline(self) -> str:
        """The shape as SVG writes it."""
        return SHAPES[self.shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A dotted line at one place of a scale, straight across the chart."""

    at: float
    scale: str
    ink: str = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a chart's key: a line, a mark or both."""

    name: str
    line: Line | None
    mark: Mark | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One drawing: `name` is its id, `label` says in words what it shows; later lines and marks lie on top of earlier ones.

    `moving` is a place in the unit of both scales, with a ring around it that a script may move.
    """

    name: str
    label: str
    x: Scale
    y: Scale
    height: int = 320
    bands: tuple[Band, ...] = ()
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    rules: tuple[Rule, ...] = ()
    moving: tuple[float, float] | None = None
    has_key: bool = True

    def left(self, x: float) -> float:
        """Return the distance from the left side, in per cent."""
        return self.x.place(x)

    def top(self, y: float) -> float:
        """Return the distance from the upper side, in per cent."""
        return round(100 - self.y.place(y), 2)

    def bars(self, mark: Mark) -> tuple[float, float] | None:
        """Return the distances of a mark's interval from the upper side, in per cent, cut off at the chart's ends."""
        if mark.interval is None:
            return None
        high, low = (min(100.0, max(0.0, self.top(end))) for end in reversed(mark.interval))
        return high, low

    def path(self, x: Sequence[float], y: Sequence[float]) -> str:
        """Return points as SVG writes them, in a square of 1000 by 1000."""
        return " ".join(f"{10 * self.left(a):.1f},{10 * self.top(b):.1f}" for a, b in zip(x, y, strict=True))

    def outline(self, band: Band) -> str:
        """Return the points around a band."""
        return f"{self.path(band.x, band.high)} {self.path(band.x[::-1], band.low[::-1])}"

    @property
    def key(self) -> list[Entry]:
        """What is named, each name once, in the order of lines and then marks."""
        parts: tuple[Line | Mark, ...] = (*self.lines, *self.marks)
        names = dict.fromkeys(part.name for part in parts if part.name) if self.has_key else {}
        line = {part.name: part for part in reversed(self.lines)}
        mark = {part.name: part for part in reversed(self.marks)}
        return [Entry(name=name, line=line.get(name), mark=mark.get(name)) for name in names]


def reach(values: Sequence[float], margin: float = 0.05, least: float = 1e-3) -> tuple[float, float]:
    """Return the ends of a scale that holds all values, with a margin on both sides that is a share of their reach."""
    low, high = min(values), max(values)
    extra = margin * max(high - low, least)
    return low - extra, high + extra
