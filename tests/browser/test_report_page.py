"""The report in a real browser: drawn, silent, closed to the network, and no wider than its window."""

from __future__ import annotations

import html
import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from triaxis.report import write_report
from triaxis.report.records import Records

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or set CHROMIUM to its path")]

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "unit" / "report" / "example_records.py"))
# Runs before all else, so that it hears every error and every request that the page's own policy refuses.
LISTEN = """<head><script>
const heard = [];
addEventListener("error", event => heard.push(event.message));
addEventListener("securitypolicyviolation", event => heard.push("refused " + event.blockedURI));
console.error = console.warn = (...words) => heard.push(words.join(" "));
</script>"""
REPORT = """<script>
addEventListener("load", () => setTimeout(() => {
  const plots = [...document.querySelectorAll("script[data-plot]")].map(source => document.getElementById(source.dataset.plot));
  parent.postMessage({
    page: PAGE,
    heard,
    traces: plots.map(plot => plot.querySelectorAll(".scatterlayer .trace").length),
    excess: plots.map(plot => plot.querySelector(".main-svg").clientWidth - plot.closest("figure").clientWidth),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    requests: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => name.startsWith("http")),
  }, "*");
}, 100));
</script></body>"""
COLLECT = """<!doctype html><body><script>
const seen = {};
addEventListener("message", event => {
  seen[event.data.page] = event.data;
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>"""
REQUEST = '<img src="http://192.0.2.1/x.png">'


def page_to_watch(records: Records, folder: Path, name: str, extra: str = "") -> None:
    """Write a report that tells its parent window what it saw of itself."""
    path = write_report(records, folder / f"{name}.html")
    report = extra + REPORT.replace("PAGE", json.dumps(name))
    path.write_text(path.read_text().replace("<head>", LISTEN, 1).replace("</body>", report))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each page saw of itself, all in one browser: it takes longer to start than to draw."""
    folder = tmp_path_factory.mktemp("pages")
    finished = EXAMPLE["example_records"]()
    page_to_watch(finished, folder, "desktop")
    page_to_watch(finished, folder, "phone")
    page_to_watch(Records(), folder, "empty", extra=REQUEST)
    frame = '<iframe src="{}.html" style="width: {}px; height: 900px"></iframe>'
    frames = [frame.format(name, width) for name, width in (("desktop", 1200), ("phone", 390), ("empty", 1200))]
    outer = folder / "outer.html"
    outer.write_text(COLLECT + "".join(frames))
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--virtual-time-budget=5000"]
    command = [str(CHROMIUM), *quiet, f"--user-data-dir={folder / 'profile'}", "--dump-dom", outer.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found, "no page's scripts ran to their end"
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("name", ["desktop", "phone"])
def test_finished_run_is_drawn_without_errors_or_requests(seen: dict[str, dict[str, Any]], name: str) -> None:
    page = seen[name]
    assert page["heard"] == [] and page["requests"] == []
    assert len(page["traces"]) == 5 and min(page["traces"]) >= 2
    assert page["overflow"] <= 0 and max(page["excess"]) <= 0


def test_empty_run_opens_and_a_request_would_be_refused_and_heard(seen: dict[str, dict[str, Any]]) -> None:
    page = seen["empty"]
    assert page["traces"] == []
    assert page["heard"] and all(words.startswith("refused http://192.0.2.1") for words in page["heard"])
