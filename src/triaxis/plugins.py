"""Parts that the outside may add: found by their name in the box, by ``package.module:Name``, or by an entry point.

Nothing is imported but what the user's own configuration names.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from triaxis.errors import ConfigError

FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""Of ``package.module:Name``."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of one kind.

    `kind` is its word in messages, `group` the entry point group under which installed packages offer theirs, and `box`
    maps the names of the parts that come with triaxis to their ``package.module:Name``.
    """

    kind: str
    group: str
    box: Mapping[str, str]

    @property
    def choices(self) -> str:
        """What a user may write, for messages and descriptions."""
        return f"{', '.join(self.box)} or package.module:Name"

    def check(self, name: str) -> None:
        """Check that a name is one in the box, an installed part's or a ``package.module:Name``; nothing is imported.

        Raises:
            ConfigError: It is none of these; the message has the nearest that is.
        """
        if name in self.box or FORM.fullmatch(name):
            return
        installed = self._installed()
        if name in installed:
            return
        known = [*self.box, *sorted(installed)]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(f"The {self.kind} must be one of {', '.join(known)} or package.module:Name, got {name!r}{hint}")

    def make(self, name: str) -> Any:
        """Return a new part: what the named class or function returns when called without arguments.

        Raises:
            ConfigError: The name is unknown, cannot be imported, or cannot be called so.
        """
        self.check(name)
        maker = self._maker(name)
        try:
            return maker()
        except Exception as error:  # code of the user's own may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"The {self.kind} {name} must be a class or function that can be called without arguments, got {reason}."
            ) from error

    def _maker(self, name: str) -> Callable[[], Any]:
        try:
            if name not in self.box and not FORM.fullmatch(name):
                return self._installed()[name].load()
            return _imported(self.box.get(name, name))
        except Exception as error:  # importing runs code of the user's own
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"The {self.kind} {name} must be importable, in the current directory or installed, got {reason}.") from error

    def _installed(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}


def import_function(name: str, otherwise: str = "") -> Callable[..., Any]:
    """Return what ``package.module:function`` names, looked up as Python does, and in the current directory.

    Args:
        name: The function.
        otherwise: What else the name may be, for the error's sentence.

    Raises:
        ConfigError: It cannot be imported.
    """
    try:
        return _imported(name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name!r} must name an importable package.module:function{otherwise}, got: {error}.") from None


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return getattr(importlib.import_module(module), attribute)


CRITERIA = Parts(
    "criterion",
    "triaxis.criteria",
    {
        "l1": "triaxis.surgery.criteria.norms:L1",
        "l2": "triaxis.surgery.criteria.norms:L2",
        "bn": "triaxis.surgery.criteria.scales:BatchNormScale",
        "taylor": "triaxis.surgery.criteria.taylor:Taylor",
        "random": "triaxis.surgery.criteria.control:Random",
    },
)
"""What scores channels."""
