"""Charts: round ticks, places that can be computed by hand, inks that can be read."""

from __future__ import annotations

import pytest

from triaxis.report.draw import INKS, Chart, Line, Mark, Scale

PLAIN = Scale(title="x", low=0, high=100)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 100, ["0", "20", "40", "60", "80", "100"]),
        (84.9, 91.3, ["85", "86", "87", "88", "89", "90", "91"]),
        (0.47, 1.03, ["0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]),
        (-0.004, 0.004, ["-0.004", "-0.002", "0.000", "0.002", "0.004"]),
        (18, 102, ["20", "40", "60", "80", "100"]),
    ],
)
def test_ticks_are_round_numbers_within_the_scale(low: float, high: float, wanted: list[str]) -> None:
    scale = Scale(title="x", low=low, high=high, max_ticks=7)
    assert [text for _, text in scale.ticks] == wanted
    assert all(0 <= place <= 100 for place, _ in scale.ticks)


def test_a_value_lies_where_its_share_of_the_scale_is() -> None:
    chart = Chart(name="a", label="a", x=PLAIN, y=Scale(title="y", low=80, high=90))
    assert (chart.left(25), chart.top(90), chart.top(80), chart.top(82)) == (25, 0, 100, 80)
    assert chart.path([0, 100], [90, 80]) == "0.0,0.0 1000.0,1000.0"


def test_an_interval_is_cut_off_where_the_chart_ends() -> None:
    chart = Chart(name="a", label="a", x=PLAIN, y=Scale(title="y", low=80, high=90))
    mark = Mark(x=50, y=85, ink="depth", shape="down", says="", interval=(70, 87))
    assert chart.bars(mark) == (30, 100)


def test_the_key_has_each_name_once_with_its_line_and_its_mark() -> None:
    line = Line(x=(0, 1), y=(0, 1), ink="depth", name="depth only")
    marks = tuple(Mark(x=1, y=1, ink=ink, shape="down", says="", name=name) for ink, name in (("depth", "depth only"), ("base", "other")))
    chart = Chart(name="a", label="a", x=PLAIN, y=PLAIN, lines=(line, Line(x=(), y=(), ink="base")), marks=(*marks, marks[1]))
    assert [(entry.name, entry.line, entry.mark) for entry in chart.key] == [("depth only", line, marks[0]), ("other", None, marks[1])]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ink", sorted(set(INKS) - {"page", "soft", "line"}))
def test_every_ink_can_be_read_on_its_page(ink: str, side: int) -> None:
    assert contrast(INKS[ink][side], INKS["page"][side]) >= 4.5
    assert contrast(INKS[ink][side], INKS["soft"][side]) >= 4.5
