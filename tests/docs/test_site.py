"""The docs site builds without a warning, and fetches nothing from outside; `make docs` builds the same."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_the_pages_are_there(site: Path) -> None:
    for page in ("index.html", "get_started/index.html", "guides/latency/index.html", "benchmarks/results/cifar-cpu/index.html"):
        assert (site / page).is_file()
    api = (site / "api" / "index.html").read_text()
    for name in ("compress", "Budget", "load", "Surgeon"):
        assert f'id="triaxis.{name}"' in api


def test_links_out_of_the_docs_folder_lead_into_the_site(site: Path) -> None:
    assert 'href="../benchmarks/"' in (site / "how_good" / "index.html").read_text()
    assert 'href="../../how_good/"' in (site / "benchmarks" / "diary" / "index.html").read_text()
    assert (site / "examples" / "own_model.yaml").is_file()


def test_no_page_fetches_anything_from_outside(site: Path) -> None:
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\s\">]+")
    found = {match for page in site.rglob("*.html") for match in fetched.findall(page.read_text()) if 'rel="canonical"' not in match}
    assert not found
    styles = [path for path in site.rglob("*.css") if re.search(r"(@import|url\()\s*[\"']?https?:", path.read_text())]
    assert not styles


def test_a_broken_link_fails(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A page\n\n[nowhere](nowhere.md) and [outside](../nothing/there.md)\n")
    config = (ROOT / "mkdocs.yml").read_text()
    config = config[: config.index("\nnav:\n")].replace("extra_css: [site.css]", "").replace("scripts/", f"{ROOT}/scripts/")
    (tmp_path / "mkdocs.yml").write_text(re.sub(r"plugins:\n(  .*\n|    .*\n)+", "plugins: []\n", config))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr and "../nothing/there.md" in done.stderr


def test_the_pictures_are_what_their_script_draws() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "pictures.py"))
    for name, draw in script["PICTURES"].items():
        stored = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
        # The last digit of a coordinate may differ between machines.
        numbers = [float(n) for n in re.findall(r"\d+\.\d", stored)]
        assert [float(n) for n in re.findall(r"\d+\.\d", draw())] == pytest.approx(numbers, abs=0.2)
        assert re.sub(r"\d+\.\d", "", draw()) == re.sub(r"\d+\.\d", "", stored), "python scripts/pictures.py"
