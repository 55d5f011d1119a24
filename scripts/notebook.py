"""Write the tutorial as a notebook: its text as Markdown cells, its blocks as cells to run, what they printed as outputs.

    python scripts/notebook.py

docs/tutorial.md is the source; a test compares the two, and runs the page's blocks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
NOTEBOOK = ROOT / "examples" / "notebooks" / "clothing.ipynb"
FENCE = re.compile(r"(?P<skipped><!-- not run: .*? -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```\n", re.M | re.S)
FILE = re.compile(r"# ([\w/]+\.\w+)\n")
LINK = re.compile(r"(\]\()(?!https?:|#)([^)\s]+)")
INTRODUCTION = """> This notebook is written from [the tutorial](../../docs/tutorial.md), and its outputs are those of the run that is
> told there. It needs the folder `clothing` beside it.
"""


def notebook(page: str) -> dict[str, Any]:
    """Return the notebook of a page, as plain JSON data of nbformat 4.5."""
    title, _, rest = page.partition("\n")
    cells = list(_cells(f"{title}\n\n{INTRODUCTION}{rest}"))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}


def _cells(page: str) -> Iterator[dict[str, Any]]:
    """Yield the cells; a text block right after a cell is what it printed."""
    text, code, end = "", None, 0
    for match in FENCE.finditer(page):
        between, end = page[end : match.start()], match.end()
        source = None if match["skipped"] else _source(match["language"], match["text"])
        if match["language"] == "text" and code is not None and not between.strip():
            code["outputs"] = [{"name": "stdout", "output_type": "stream", "text": match["text"].splitlines(keepends=True)}]
            continue
        text, code = text + between, None
        if source is None:
            text += match[0].removeprefix(match["skipped"] or "")
            continue
        yield from _markdown(text)
        text, code = "", {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": _lines(source)}
        yield code
    yield from _markdown(text + page[end:])


def _source(language: str, text: str) -> str | None:
    """Return a block as the source of a cell; None if it is not run."""
    named = FILE.match(text)
    if named:
        return f"%%writefile {named[1]}\n{text[named.end() :]}"
    if language == "python":
        return text
    if language == "sh":
        return re.sub(r"(?<!\\\n)^(?=\S)", lambda at: "%" if text.startswith("pip ", at.start()) else "!", text, flags=re.M)
    return None


def _markdown(text: str) -> Iterator[dict[str, Any]]:
    if text.strip():
        linked = LINK.sub(r"\1../../docs/\2", text.strip())
        yield {"cell_type": "markdown", "metadata": {}, "source": _lines(linked.replace("docs/../docs/", "docs/"))}


def _lines(text: str) -> list[str]:
    return text.strip("\n").splitlines(keepends=True)


def main() -> None:
    """Write the notebook."""
    NOTEBOOK.parent.mkdir(parents=True, exist_ok=True)
    NOTEBOOK.write_text(json.dumps(notebook(PAGE.read_text(encoding="utf-8")), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
