"""Draw the pictures of the docs: `python scripts/pictures.py` writes docs/pictures/*.svg; a test keeps them equal to this file.

`predictor.svg` and the bars of `cost.svg` are numbers that the code computes here; the other two are drawings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triaxis.maths.fit import fit
from triaxis.maths.predict import predict
from triaxis.study.table1 import points_of
from triaxis.values import AXES, AccuracyPredictor, Point

HERE = Path(__file__).resolve().parents[1] / "docs" / "pictures"
INK, QUIET, LINE, GROUND = "#1f2933", "#52606d", "#cbd2d9", "#fff"
COLORS = {"depth": "#b45309", "width": "#0f766e", "resolution": "#7c3aed"}
FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\" font-size=\"14\""


def svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """Return a picture that says in words what it shows."""
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
    ground = f'<rect width="{width}" height="{height}" fill="{GROUND}"/>'
    return "\n".join([f'{frame} {FONT} fill="{INK}">', f"<title>{title}</title>", ground, *parts, "</svg>", ""])


def text(x: float, y: float, words: str, *, anchor: str = "middle", color: str = INK, size: int = 14, weight: int = 400) -> str:
    """Return one line of text."""
    look = f'fill="{color}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{words}</text>'


def box(x: float, y: float, width: float, height: float, color: str, *, filled: bool = False) -> str:
    """Return a rectangle with round corners."""
    fill, opacity = (color, ' fill-opacity="0.12"') if filled else (GROUND, "")
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="7" fill="{fill}"{opacity} stroke="{color}"/>'


def line(x1: float, y1: float, x2: float, y2: float, color: str = QUIET, *, arrow: bool = False) -> str:
    """Return a line, perhaps with an arrow's head at its end; heads point right, down or up."""
    drawn = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="1.5"/>'
    if not arrow:
        return drawn
    back = "l-8,-4.5 v9" if abs(x2 - x1) > abs(y2 - y1) else "l-4.5,-8 h9" if y2 > y1 else "l-4.5,8 h9"
    return f'{drawn}<path d="M{x2:.1f},{y2:.1f} {back} Z" fill="{color}"/>'


def method_picture() -> str:
    """The five stages, and what passes between them."""
    stages = [
        ("collect", ["nine short trials:", "cut one axis,", "fine-tune, measure"]),
        ("fit", ["accuracy of every", "possible cut,", "with an interval"]),
        ("solve", ["the best cut", "within the budget,", "by its own cost"]),
        ("prune", ["cut, fine-tune,", "export, verify", "once on test"]),
        ("report", ["one page:", "what was cut,", "and why"]),
    ]
    parts = [text(20, 62, "trained network", anchor="start", weight=600), text(20, 82, "images, budget", anchor="start", color=QUIET)]
    for number, (name, lines) in enumerate(stages):
        x = 160 + 152 * number
        parts += [box(x, 30, 128, 112, COLORS["width"], filled=True), text(x + 64, 54, name, weight=700, size=16)]
        parts += [text(x + 64, 80 + 20 * row, words, color=QUIET, size=13) for row, words in enumerate(lines)]
        parts.append(line(x - 22, 86, x - 3, 86, arrow=True))
    again = "another budget: no new trials, solve and prune again"
    parts += [line(226, 176, 226, 146), line(226, 176, 528, 176), line(528, 176, 528, 145, arrow=True), text(377, 196, again, color=QUIET)]
    return svg(920, 212, "Five stages: collect, fit, solve, prune, report. Another budget needs solve and prune only.", parts)


def surgery_picture() -> str:
    """A residual block: the channels of the trunk go together, the inner ones by themselves."""
    trunk, inner = COLORS["width"], COLORS["resolution"]
    parts = []
    for x, name, color in ((150, "conv1", inner), (290, "bn1, ReLU", inner), (430, "conv2", trunk), (570, "bn2", trunk)):
        parts += [box(x, 96, 104, 48, color, filled=True), text(x + 52, 125, name)]
        parts.append(line(x + 104, 120, x + 134, 120, arrow=True))
    parts += [line(60, 120, 148, 120, trunk, arrow=True), text(60, 110, "input", anchor="start", color=trunk)]
    parts += [line(100, 120, 100, 50, trunk), line(100, 50, 722, 50, trunk), line(722, 50, 722, 104, trunk, arrow=True)]
    parts += ['<circle cx="722" cy="120" r="15" fill="#fff" stroke="#1f2933"/>', text(722, 126, "+", size=18)]
    parts += [line(737, 120, 820, 120, trunk, arrow=True), text(828, 125, "output", anchor="start", color=trunk)]
    parts.append(text(411, 40, "the branch that is added: the same channels on both sides", color=trunk))
    parts.append(text(290, 176, "inner channels: one group of their own", color=inner, anchor="middle"))
    parts.append(text(580, 176, "trunk: goes together with input and output", color=trunk, anchor="middle"))
    parts.append(text(440, 212, "depth: without conv1 to bn2 the input passes by, so the whole block can go", color=COLORS["depth"]))
    return svg(900, 232, "A residual block: its inner channels form one group, those of the trunk another.", parts)


def cost_picture() -> str:
    """MACs over the paper's formula, as docs/cost.md and its table have them."""
    cells = [("ResNet-56", "half the width", 1.00), ("ResNet-56", "a third of the blocks", 0.97), ("ResNet-56", "one block a stage", 0.90)]
    cells += [("DenseNet-40", "half the width", 1.00), ("DenseNet-40", "7 of 12 layers", 0.63), ("DenseNet-40", "4 of 12 layers", 0.40)]
    left, unit = 250, 480
    parts = [text(left, 28, "counted MACs, as a share of what d w&#178; r&#178; says", anchor="start", weight=600)]
    for row, (network, cut, share) in enumerate(cells):
        y, color = 48 + 34 * row, COLORS["width"] if network.startswith("R") else COLORS["depth"]
        parts.append(text(left - 12, y + 17, f"{network}, {cut}", anchor="end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{unit * share:.1f}" height="24" rx="3" fill="{color}"/>')
        parts.append(text(left + unit * share + 8, y + 17, f"{share:.2f}", anchor="start"))
    bottom = 48 + 34 * len(cells)
    parts += [line(left + unit, 40, left + unit, bottom, LINE), text(left + unit, bottom + 18, "the formula", color=QUIET, size=13)]
    return svg(820, bottom + 32, "Counted MACs over the formula: close to 1 for a ResNet, down to 0.40 for a DenseNet.", parts)


class Panel:
    """A frame with two scales; y is accuracy in per cent."""

    def __init__(self, left: float, width: float, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.left, self.width, self.top, self.height = left, width, 60.0, 250.0
        self.x_range, self.y_range = x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixels of a point."""
        share_x = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        share_y = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return self.left + self.width * share_x, self.top + self.height * (1 - share_y)

    def frame(self, xs: Sequence[float], ys: Sequence[float], title: str, below: str, form: str) -> list[str]:
        """Return ticks, grid and titles."""
        parts = [text(self.left, 36, title, anchor="start", weight=600)]
        for y in ys:
            _, v = self.at(xs[0], y)
            parts += [line(self.left, v, self.left + self.width, v, LINE), text(self.left - 8, v + 5, f"{y:g}", anchor="end", size=12)]
        bottom = self.top + self.height
        parts += [text(self.at(x, ys[0])[0], bottom + 20, form.format(x), size=12) for x in xs]
        return [*parts, text(self.left + self.width / 2, bottom + 42, below, color=QUIET)]

    def curve(self, points: Sequence[tuple[float, float]], color: str) -> str:
        """Return a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*p) for p in points))
        return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'

    def dot(self, x: float, y: float, color: str, radius: float = 4.0) -> str:
        """Return a marker."""
        u, v = self.at(x, y)
        return f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{radius}" fill="{color}" stroke="#fff"/>'


def predictor_picture() -> str:
    """The paper's ResNets: fitted to the 13 places on the axes, beside all that was not fitted."""
    points = points_of("resnet")
    on_axes = [p for p in points if sum(getattr(p.ratios, axis) < 1 for axis in AXES) <= 1]
    scored = [p for p in points if p not in on_axes]
    fitted, _ = fit(on_axes)
    parts = [*_axes_panel(fitted, on_axes), *_scored_panel(fitted, scored)]
    return svg(900, 370, "Predicted and measured accuracies of the paper's ResNets.", parts)


def _axes_panel(fitted: AccuracyPredictor, points: Sequence[Point]) -> list[str]:
    panel = Panel(60, 380, (0.0, 1.0), (84.0, 94.0))
    parts = panel.frame([0, 0.25, 0.5, 0.75, 1], [84, 86, 88, 90, 92, 94], "fitted: one axis cut at a time", "keep ratio", "{:g}")
    for row, axis in enumerate(AXES):
        low = min(getattr(p.ratios, axis) for p in points)
        ratios = np.ones((40, 3))
        ratios[:, AXES.index(axis)] = np.linspace(low, 1, 40)
        predicted = 100 * predict(fitted, ratios).accuracy
        parts.append(panel.curve(list(zip(ratios[:, AXES.index(axis)], predicted, strict=True)), COLORS[axis]))
        others = [name for name in AXES if name != axis]
        on_axis = [p for p in points if all(getattr(p.ratios, name) == 1 for name in others)]
        parts += [panel.dot(getattr(p.ratios, axis), 100 * p.accuracy, COLORS[axis]) for p in on_axis]
        parts += [text(panel.left + panel.width - 8, 250 + 20 * row, axis, anchor="end", color=COLORS[axis], weight=600)]
    return parts


def _scored_panel(fitted: AccuracyPredictor, points: Sequence[Point]) -> list[str]:
    panel = Panel(520, 340, (78.0, 94.0), (78.0, 94.0))
    ticks = [78, 82, 86, 90, 94]
    ratios = np.array([[getattr(p.ratios, axis) for axis in AXES] for p in points])
    measured, predicted = 100 * np.array([p.accuracy for p in points]), 100 * predict(fitted, ratios).accuracy
    error = float(np.abs(measured - predicted).mean())
    title = f"not fitted: {len(points)} values, mean error {error:.2f} points"
    parts = panel.frame(ticks, ticks, title, "predicted, %", "{:g}")
    parts.append(panel.curve([(78, 78), (94, 94)], LINE))
    return [*parts, *(panel.dot(x, y, "#be185d", 3.5) for x, y in zip(predicted, measured, strict=True))]


PICTURES = {"method": method_picture, "surgery": surgery_picture, "cost": cost_picture, "predictor": predictor_picture}


def main() -> None:
    """Write all pictures."""
    for name, draw in PICTURES.items():
        (HERE / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
