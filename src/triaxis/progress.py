"""How a long stage tells how far it is; silent unless the command line shows bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float, str], None]
"""Called with the share of the stage that is done, in [0, 1], and a few words on what is happening."""


class Progress(Protocol):
    """Shows stages."""

    def stage(self, name: str) -> AbstractContextManager[Advance]:
        """Open one stage; the context's value is told how far it is."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Open a stage that nobody watches."""
        yield lambda share, note: None
