"""A hook of mkdocs: links that are right in the repository are right on the site too.

Pages link to files outside docs/, such as ``../benchmarks/README.md`` or ``../examples/digits.yaml``. The hook takes those
files into the site and rewrites the links; a link to a file that does not exist stays as it is, and the strict build fails.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the navigation that lie outside docs/, and each file that a page links to, however far."""
    for uri in _pages(config.nav):
        _add(files, config, uri)
    waiting = [file for file in files if file.src_uri.endswith(".md")]
    while waiting:
        file = waiting.pop()
        for _, target in LINK.findall(file.content_string):
            added = _add(files, config, _in_repository(file.src_uri, target))
            if added is not None and added.src_uri.endswith(".md"):
                waiting.append(added)
    return files


def _pages(nav: Any) -> list[str]:
    """Return the pages of the navigation, sections opened."""
    if isinstance(nav, str):
        return [nav]
    return [page for item in (nav.values() if isinstance(nav, dict) else nav or []) for page in _pages(item)]


def _add(files: Files, config: Any, place: str) -> File | None:
    """Take a file of the repository into the site, unless it is there already."""
    uri = _on_site(place)
    if not (ROOT / place).is_file() or files.get_file_from_path(uri) is not None:
        return None
    files.append(File.generated(config, uri, abs_src_path=str(ROOT / place)))
    return files.get_file_from_path(uri)


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Rewrite the links that leave docs/, or come from a page outside it."""

    def rewritten(match: re.Match[str]) -> str:
        uri = _on_site(_in_repository(page.file.src_uri, match[2]))
        if files.get_file_from_path(uri) is None:
            return match[0]
        return match[1] + posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(rewritten, markdown)


def _in_repository(page: str, target: str) -> str:
    """Return where a link leads, relative to the repository; `page` is a page's place on the site."""
    own = page if not (ROOT / "docs" / page).is_file() else f"docs/{page}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(own), target))


def _on_site(place: str) -> str:
    """Return where a file of the repository lies on the site. A page of the root must not take the place of the home page."""
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    return "readme.md" if place == "README.md" else place
