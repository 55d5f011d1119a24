"""The pages in a real browser, as pictures and from within: drawn, silent, closed to the network, no wider than their window."""

from __future__ import annotations

import html
import json
import os
import re
import runpy
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from triaxis.cli.progress_of import progress_of
from triaxis.config import config_from_plain
from triaxis.report import write_report
from triaxis.report.compare import Run, render_comparison
from triaxis.report.draw import INKS
from triaxis.report.live import LivePage, LiveServer
from triaxis.report.records import Records
from triaxis.store.directory import RunDirectory
from triaxis.study.page import write_table1_page
from triaxis.study.table1 import study_table1
from triaxis.testing import FakeTrainer, chain_specs

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or set CHROMIUM to its path")]

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "unit" / "report" / "example_records.py"))
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync", "--no-first-run", "--hide-scrollbars", "--virtual-time-budget=5000"]
# Runs before all else, so that it hears every error and every request that the page's own policy refuses.
LISTEN = """<head><script>
const heard = [];
addEventListener("error", event => heard.push(event.message));
addEventListener("securitypolicyviolation", event => heard.push("refused " + event.blockedURI));
console.error = console.warn = (...words) => heard.push(words.join(" "));
</script>"""
REPORT = """<script>
addEventListener("load", () => setTimeout(() => {
  const charts = [...document.querySelectorAll("svg.chart")], width = document.documentElement.clientWidth;
  const texts = charts.flatMap(chart => [...chart.querySelectorAll("text")]);
  const report = {
    page: PAGE,
    heard,
    background: getComputedStyle(document.body).backgroundColor,
    drawn: charts.map(chart => chart.querySelectorAll("polyline, .mark").length),
    heights: charts.map(chart => chart.clientHeight),
    outside: texts.filter(text => { const box = text.getBoundingClientRect(); return box.left < 0 || box.right > width; }).length,
    smallest: Math.min(...texts.map(text => parseFloat(getComputedStyle(text).fontSize))),
    overflow: document.documentElement.scrollWidth - width,
    requests: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => name.startsWith("http")),
  };
  const slider = document.getElementById("budget");
  if (slider) {
    slider.value = 80;
    slider.dispatchEvent(new Event("input"));
    report.shown = Object.fromEntries([...document.querySelectorAll("[data-said]")].map(f => [f.dataset.said, f.textContent]));
    report.wanted = JSON.parse(document.getElementById("budget-steps").textContent)[80];
    report.ring = document.querySelector(".moving").getAttribute("x");
  }
  const mark = document.querySelector(".chart .mark:last-of-type path");
  if (mark) {
    mark.dispatchEvent(new MouseEvent("click", {bubbles: true}));
    report.told = mark.closest("figure").querySelector(".told").textContent;
    report.says = mark.closest(".mark").dataset.says;
  }
  parent.postMessage(report, "*");
}, 100));
</script></body>"""
COLLECT = """<!doctype html><body style="margin: 0; white-space: nowrap"><script>
const seen = {};
addEventListener("message", event => {
  seen[event.data.page] = event.data;
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>"""
REQUEST = '<img src="http://192.0.2.1/x.png">'
WIDE, NARROW, HEIGHT = 1200, 360, 1700
FRAMES = {
    "wide-light": (WIDE, "light"),
    "wide-dark": (WIDE, "dark"),
    "narrow-light": (NARROW, "light"),
    "narrow-dark": (NARROW, "dark"),
    "compare": (NARROW, "light"),
    "study": (NARROW, "dark"),
    "live": (NARROW, "light"),
    "empty": (WIDE, "light"),
}


def watch(path: Path, name: str, extra: str = "") -> None:
    """Let a page tell its parent window what it saw of itself."""
    report = extra + REPORT.replace("PAGE", json.dumps(name))
    path.with_name(f"{name}.html").write_text(path.read_text().replace("<head>", LISTEN, 1).replace("</body>", report))


def running(place: Path) -> RunDirectory:
    """A run that has some trials."""
    trainer, run = FakeTrainer(), RunDirectory(place)
    with run.open(config_from_plain({})) as store:
        store.put_record("cost_table", trainer.cost_table().to_json())
        for spec in chain_specs():
            store.put_trial(trainer(spec))
    return run


def browse(folder: Path, address: str, *options: str) -> str:
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, dict[str, Any]]:
    """What each page saw of itself, and one picture of all, by one browser: it takes longer to start than to draw."""
    example = EXAMPLE["example_records"]
    finished = write_report(example(), folder / "report.html")
    for name in ("wide-light", "wide-dark", "narrow-light", "narrow-dark"):
        watch(finished, name)
    compared = folder / "compared.html"
    compared.write_text(render_comparison([Run(name=f"budget-{share}", records=example(share)) for share in (0.5, 0.25)]))
    watch(compared, "compare")
    watch(write_table1_page(study_table1(), folder / "table1.html"), "study")
    live = folder / "page.html"
    # Its questions to a server have no answer from a file.
    live.write_text(LivePage(running(folder / "run").path, progress_of).page().replace("setTimeout(poll, 2000);", ""))
    watch(live, "live")
    watch(write_report(Records(), folder / "none.html"), "empty", extra=REQUEST)
    frame = '<iframe src="{}.html" style="width: {}px; height: {}px; border: 0; color-scheme: {}"></iframe>'
    outer = folder / "outer.html"
    outer.write_text(COLLECT + "".join(frame.format(name, width, HEIGHT, scheme) for name, (width, scheme) in FRAMES.items()))
    size = f"--window-size={sum(width for width, _ in FRAMES.values())},{HEIGHT}"
    dom = browse(folder, outer.as_uri(), size, f"--screenshot={folder / 'picture.png'}")
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found, "no page's scripts ran to their end"
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("name", [name for name in FRAMES if name != "empty"])
def test_a_page_is_drawn_without_errors_or_requests_and_fits_its_window(seen: dict[str, dict[str, Any]], name: str) -> None:
    page = seen[name]
    assert page["heard"] == [] and page["requests"] == []
    assert len(page["drawn"]) == {"compare": 1, "study": 8, "live": 1}.get(name, 5)
    assert min(page["drawn"]) >= 2 and min(page["heights"]) >= 200
    assert page["overflow"] <= 0 and page["outside"] == 0
    assert page["smallest"] >= 12, "text keeps its size on a narrow screen"


def rgb(color: str) -> tuple[int, int, int]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))  # type: ignore[return-value]


@pytest.mark.parametrize("name", list(FRAMES))
def test_the_picture_of_a_page_is_light_or_dark_as_asked_and_is_not_empty(seen: dict[str, Any], folder: Path, name: str) -> None:
    width, scheme = FRAMES[name]
    left = sum(width for width, _ in list(FRAMES.values())[: list(FRAMES).index(name)])
    picture = Image.open(folder / "picture.png").convert("RGB").crop((left, 0, left + width, HEIGHT))
    side = ("light", "dark").index(scheme)
    counts = {color: number for number, color in picture.getcolors(maxcolors=1 << 24) or ()}
    commonest = max(counts, key=lambda color: counts[color])
    assert commonest == rgb(INKS["page"][side]) == tuple(map(int, re.findall(r"\d+", seen[name]["background"])))
    assert counts[rgb(INKS["ink"][side])] > 300, "words"
    if name in ("wide-light", "wide-dark", "compare", "live"):
        assert counts[rgb(INKS["chosen"][side])] > 100


@pytest.mark.parametrize("name", ["wide-light", "narrow-dark"])
def test_the_slider_shows_the_numbers_of_its_step_and_moves_the_ring(seen: dict[str, dict[str, Any]], name: str) -> None:
    page = seen[name]
    assert page["shown"] == {field: page["wanted"]["said"][field] for field in page["shown"]}
    assert {"accuracy", "macs", "latency_ms", "depth", "width", "resolution", "command"} <= set(page["shown"])
    assert page["ring"] == f"{page['wanted']['left']}%"


def test_a_tap_on_a_mark_tells_its_numbers(seen: dict[str, dict[str, Any]]) -> None:
    for name in ("narrow-light", "study", "live"):
        assert seen[name]["told"] == seen[name]["says"] != ""


def test_empty_run_opens_and_a_request_would_be_refused_and_heard(seen: dict[str, dict[str, Any]]) -> None:
    page = seen["empty"]
    assert page["drawn"] == []
    assert page["heard"] and all(words.startswith("refused http://192.0.2.1") for words in page["heard"])


def test_the_live_page_follows_its_run_by_itself(folder: Path) -> None:
    run = running(folder / "followed")
    asked: list[int] = []

    def state(path: Path) -> dict[str, Any]:
        asked.append(len(asked))
        return progress_of(path) | {"model": f"asked {len(asked)} times"}

    with LiveServer(LivePage(run.path, state)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        dom = browse(folder, server.address)
        server.shutdown()
        thread.join()
    found = re.search(r"asked (\d+) times", dom)
    assert found and int(found[1]) >= 2
    assert 'id="lost" role="alert" hidden' in dom
