"""The templates of all pages: everything that is put in is escaped, and a number stays on one line with its unit."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from triaxis.report.draw import INKS

_BEFORE_UNIT = re.compile(r"(?<=\d) (?=%|ms\b|px\b|points?\b|[kMG]B?\b)|(?<=batch) (?=\d)")


def templates(*packages: str) -> Environment:
    """Return the environment of the report's templates, and of those of other packages before them."""
    loader = ChoiceLoader([PackageLoader(package, ".") for package in (*packages, "triaxis.report")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_unbroken)
    found.globals["inks"] = INKS
    return found


def _unbroken(item: Any) -> Any:
    """Keep a number and its unit on one line; markup and program text stay as they are."""
    return _BEFORE_UNIT.sub("\u00a0", item) if type(item) is str else item
