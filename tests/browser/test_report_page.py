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
document.body.dataset.seen = JSON.stringify({
  heard,
  traces: plots.map(plot => plot.querySelectorAll(".scatterlayer .trace").length),
  excess: plots.map(plot => plot.querySelector(".main-svg").clientWidth - plot.closest("figure").clientWidth),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  requests: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => name.startsWith("http")),
});
}, 100));
</script></body>"""


def look(records: Records, folder: Path, width: int, extra: str = "") -> dict[str, Any]:
    """Open the report in a window of this width and return what the page saw of itself."""
    page = write_report(records, folder / "report.html")
    text = page.read_text().replace("<head>", LISTEN, 1).removesuffix("</html>\n").removesuffix("</html>")
    page.write_text(text.replace("</body>", extra + REPORT) + "</html>")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=3000",
        f"--window-size={width},1000",
    ]
    command = [str(CHROMIUM), *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found, "the page's scripts did not run to their end"
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [1200, 500])
def test_finished_run_is_drawn_without_errors_or_requests(tmp_path: Path, width: int) -> None:
    seen = look(EXAMPLE["example_records"](), tmp_path, width)
    assert seen["heard"] == [] and seen["requests"] == []
    assert len(seen["traces"]) == 5 and min(seen["traces"]) >= 2
    assert seen["overflow"] <= 0 and max(seen["excess"]) <= 8


def test_empty_run_opens_and_a_request_would_be_refused_and_heard(tmp_path: Path) -> None:
    seen = look(Records(), tmp_path, 1200, extra='<img src="http://192.0.2.1/x.png">')
    assert seen["traces"] == []
    assert [words for words in seen["heard"] if not words.startswith("refused http://192.0.2.1")] == []
    assert seen["heard"]
