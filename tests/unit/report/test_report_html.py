"""The page and the picture as files: whole, well formed, escaped, closed to the network."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from triaxis.errors import ConfigError, StoreError
from triaxis.maths.solve import solve
from triaxis.report import html, scores, write_picture, write_report
from triaxis.report.records import Records
from triaxis.tasks import BOX
from triaxis.values import Budget, FailedTrial

EVIL = "<script>alert('x')</script>\"&"
STAGES = ("trials", "predictor", "solution", "plan", "verification")


class Page(HTMLParser):
    """Collects tags and checks that each is closed in order."""

    void = {"meta", "br", "img", "link", "input", "hr"}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_asks_for_nothing(records: Records) -> None:
    page = Page(html.render(records, "demo"))
    assert page.open == []
    for tag, attributes in page.tags:
        assert not {"src", "href", "srcset"} & set(attributes), tag
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'")
    names = [a["id"] for _, a in page.tags if "id" in a]
    assert len(names) == len(set(names))
    assert {"frontier", "axis-depth", "axis-width", "axis-resolution", "prediction"} <= set(names)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "the Wilson interval"),
        ({"fit": {"target": "balanced_accuracy"}}, "the mean of the classes&#39; recalls"),
        ({"task": "multi_label", "fit": {"target": "accuracy"}}, "mean average precision"),
        ({"task": "my.module:Counting"}, "the score of the task my.module:Counting"),
    ],
)
def test_the_page_says_what_the_accuracy_of_its_task_is(records: Records, config: dict[str, object], said: str) -> None:
    page = html.render(dataclasses.replace(records, config=config), "demo")
    assert said in page
    assert ("Wilson" in page) == (said == "the Wilson interval")


def test_each_task_of_the_box_says_what_its_accuracy_is() -> None:
    assert BOX.keys() - {"classification"} <= scores.SCORES.keys()


def test_every_drawing_and_scrolling_table_has_spoken_text(records: Records) -> None:
    page = Page(html.render(records, "demo"))
    spoken = [a for t, a in page.tags if a.get("role") == "img" or a.get("class") == "wide"]
    assert len(spoken) == 9 and all(a.get("aria-label") for a in spoken)
    assert sum(a.get("class") == "chart" for a in spoken) == 5


def test_every_mark_says_its_numbers_to_a_pointer_and_to_a_tap(records: Records) -> None:
    text = html.render(records, "demo")
    found = ElementTree.fromstring(text[text.index('<svg class="chart"') : text.index('</svg>\n</div>\n<p class="below')] + "</svg>")
    marks = [g for g in found.iter("g") if g.get("class") == "mark"]
    assert marks
    for mark in marks:
        title = mark.find("title")
        assert title is not None and title.text == mark.get("data-says") and "%" in (title.text or "")


def test_the_page_stays_small_even_for_a_large_run(records: Records, tmp_path: Path) -> None:
    """A network of 300 blocks and 600 channel groups, and 200 trials."""
    assert records.plan
    blocks = [{"name": f"features.stages.{n}", "stage": f"stage {n // 30}", "modules": [f"features.stages.{n}"]} for n in range(300)]
    names = [f"features.stages.{n // 2}.conv{n % 2}" for n in range(600)]
    cuts = tuple(dataclasses.replace(records.plan.channels[0], group=name) for name in names)
    groups = [{"name": name, "num_channels": cuts[0].num_channels} for name in names]
    trials = tuple(dataclasses.replace(t, spec=dataclasses.replace(t.spec, seed=seed)) for seed in range(15) for t in records.trials)[:200]
    plan = dataclasses.replace(records.plan, num_blocks=300, num_channels=16 * 600, removed_blocks=(), channels=cuts)
    large = dataclasses.replace(records, plan=plan, anatomy={"blocks": blocks, "groups": groups}, trials=trials)
    assert write_report(large, tmp_path / "large.html").stat().st_size < 1_000_000
    assert write_report(records, tmp_path / "report.html").stat().st_size < 250_000


@pytest.mark.parametrize("reached", range(len(STAGES) + 1))
def test_a_run_stopped_after_any_stage_has_a_page(records: Records, reached: int) -> None:
    missing = {name: () if name == "trials" else None for name in STAGES[reached:]}
    text = html.render(dataclasses.replace(records, **missing), "demo")  # type: ignore[arg-type]
    Page(text)
    assert ("Next: triaxis prune RUN" in text) == (reached < len(STAGES))
    assert ("Next: triaxis fit RUN" in text) == (reached < 2)


def test_an_empty_run_has_a_page() -> None:
    text = html.render(Records(), "demo")
    Page(text)
    assert all(f'<p class="lacking">{sentence}' in text for sentence in html.MISSING.values())


def test_everything_from_outside_is_escaped(records: Records) -> None:
    assert records.plan
    failed = FailedTrial(spec=records.trials[-1].spec, error=EVIL)
    anatomy = {"blocks": [{"name": EVIL, "stage": ""}], "closed": {"width": EVIL}}
    channels = (dataclasses.replace(records.plan.channels[0], group=EVIL),)
    hostile = dataclasses.replace(
        records,
        config={"name": EVIL},
        anatomy=anatomy,
        plan=dataclasses.replace(records.plan, channels=channels),
        trials=(*records.trials[:-1], failed),
        environment={EVIL: EVIL},
        seconds={EVIL: 1.0},
    )
    text = html.render(hostile, EVIL)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") >= 8


def test_numbers_keep_their_units_but_configuration_is_not_touched(records: Records) -> None:
    text = html.render(dataclasses.replace(records, config={"note": "90 % of 5 ms"}), "demo")
    assert "note: 90 % of 5 ms" in text
    assert not re.search(r"<td>[\d.]+ %", text)


def test_a_report_that_cannot_be_written_is_one_sentence_and_no_half_file(records: Records, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StoreError, match=r"report\.html must be writable"):
        write_report(records, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_picture_is_an_svg_with_everything_inside_its_frame(records: Records, tmp_path: Path) -> None:
    path = write_picture(records, tmp_path / "picture.svg")
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg") and root.get("aria-label")
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for mark in root.iter():
        for x, y in (("x", "y"), ("x1", "y1"), ("x2", "y2")):
            if mark.get(x) and mark.get(y):
                assert 0 <= float(mark.get(x, 0)) <= width and 0 <= float(mark.get(y, 0)) <= height
    said = "".join(root.itertext())
    names = ("delivered, measured", "all three axes", "depth only", "width only", "resolution only", "equal split")
    assert all(name in said for name in names)


def test_a_picture_needs_svg_and_a_predictor(records: Records, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.svg"):
        write_picture(records, tmp_path / "picture.png")
    with pytest.raises(ConfigError, match="triaxis fit"):
        write_picture(Records(), tmp_path / "picture.svg")


def test_a_latency_budget_is_told_in_milliseconds(records: Records) -> None:
    assert records.predictor and records.cost_table
    base = records.cost_table.base_cost("latency_ms")
    budget = Budget(metric="latency_ms", limit=0.6 * base, fraction=0.6)
    solution = solve(records.predictor, records.cost_table, [budget])
    text = html.render(dataclasses.replace(records, solution=solution), "demo").replace("\u00a0", " ")
    assert "latency at most 60 % of the base model&#39;s (1.20 ms)" in text
    assert "latency, % of the base model" in text and "of the saved latency: " in text
