"""The examples of docs/extending.md as modules: each code block whose first line is a comment with a file's name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
MAX_EXAMPLE_LINES = 40


def examples(section: str) -> dict[str, str]:
    """Return the text of each file in a section of the page, by the file's name.

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


def modules(section: str) -> dict[str, ModuleType]:
    """Run the Python files of a section in their order, each as a module that the next ones and configurations can import."""
    made = {}
    for name, text in examples(section).items():
        if name.endswith(".py"):
            stem = name.removesuffix(".py")
            sys.modules[stem] = made[stem] = ModuleType(stem)
            exec(compile(text, f"{PAGE}:{name}", "exec"), made[stem].__dict__)
    return made
