"""One concept, one word: the words that docs/glossary.md says not to use are not used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = sorted(
    path
    for pattern in ("src/triaxis/**/*.py", "docs/**/*.md", "*.md", "examples/*.yaml", "examples/**/*.ipynb", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)

# (file, forbidden word): places where the word is somebody else's, or means something else.
ALLOWED: set[tuple[str, str]] = {("src/triaxis/data/folders.py", "holdout")}


def glossary() -> list[tuple[str, str, list[str]]]:
    """Return the rows of the glossary: word, meaning, forbidden words as regular expressions."""
    rows = []
    for line in (ROOT / "docs" / "glossary.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[0] not in ("use", "---"):
            rows.append((cells[0], cells[1], re.findall(r"`([^`]+)`", cells[2])))
    return rows


def test_the_glossary_is_read() -> None:
    rows = glossary()
    assert len(rows) >= 15
    assert sum(len(words) for _, _, words in rows) >= 12


@pytest.mark.parametrize("word", sorted({word for _, _, words in glossary() for word in words}))
def test_a_forbidden_word_is_not_used(word: str) -> None:
    pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in TEXTS
        if path.name != "glossary.md" and (str(path.relative_to(ROOT)), word) not in ALLOWED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_nothing_internal_is_mentioned() -> None:
    pattern = re.compile(r"/work/|shared/(reference|design)", re.IGNORECASE)
    found = [f"{path.relative_to(ROOT)}" for path in TEXTS if pattern.search(path.read_text())]
    assert not found


def test_only_known_hosts_are_named() -> None:
    # 192.0.2.1 is the address that RFC 5737 keeps for examples.
    known = {"arxiv.org", "www.w3.org", "192.0.2.1"}
    # The plan of a run that nobody has paid for yet names the source of each published number.
    sources = {("docs/scale.md", host) for host in ("docs.ffcv.io", "github.com", "huggingface.co", "pytorch.org")}
    named = ("pyproject.toml", "Makefile", "constraints.txt", ".ci/run", "mkdocs.yml", "CITATION.cff", "NOTICE", ".pre-commit-config.yaml")
    files = [*TEXTS, *(ROOT / name for name in named)]
    files += [path for pattern in ("tests/**/*.py", "scripts/*.py", ".github/**/*.*") for path in ROOT.glob(pattern)]
    found = [(str(path.relative_to(ROOT)), host) for path in files for host in re.findall(r"https?://([\w.-]+)", path.read_text())]
    assert not [(path, host) for path, host in found if host not in known and (path, host) not in sources]
