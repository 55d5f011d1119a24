"""The examples of docs/extending.md as files: each code block whose first line is a comment with a file's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
MAX_EXAMPLE_LINES = 40


def examples(section: str) -> dict[str, str]:
    """Return the text of each file in a section of the page, by name.

    Args:
        section: The heading, without its marks.
    """
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[section]
    blocks = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks, f"the section {section} must have examples"
    for name, block in blocks:
        assert len(block.splitlines()) < MAX_EXAMPLE_LINES, f"{name} must be short enough to read at once"
    return dict(blocks)


@pytest.fixture
def write_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what writes the files of a section into a folder, makes it the current directory, and returns it."""

    def write(section: str) -> Path:
        for name, text in examples(section).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    return write
