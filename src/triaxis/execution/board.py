"""What running trials tell from wherever they are, and who remembers it beside the driver."""

from __future__ import annotations

import os
import platform
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from triaxis.progress import STEP, Moment

ANSWER_S = 10.0
"""How long an address, or the board, may take to answer."""


@dataclass(frozen=True)
class Beat:
    """What a running trial tells: the machine's name, Ray's node and the process there, the share that is done, and the moment."""

    place: str
    node: str
    pid: int
    share: float
    moment: Moment


class Board:
    """Remembers what running trials told last; an actor beside the driver, which a lost node does not take along.

    Ages are counted by this process's own clock that never jumps: the clocks of the nodes do not matter.
    """

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, Beat]] = {}

    def tell(self, token: str, beat: Beat) -> None:
        """Take in what the trial of a token tells."""
        self._said[token] = (time.monotonic(), beat)

    def said(self, tokens: list[str]) -> dict[str, tuple[float, Beat]]:
        """Return how many seconds ago the trials of these tokens told what; the others are forgotten."""
        now = time.monotonic()
        self._said = {token: self._said[token] for token in tokens if token in self._said}
        return {token: (now - then, beat) for token, (then, beat) in self._said.items()}


class Beats:
    """Tells the board from a thread of its own, as long as its context is open."""

    def __init__(self, ray: Any, board: Any, token: str, beat_s: float) -> None:
        self._board, self._token, self._beat_s, self._ray = board, token, beat_s, ray
        self._last = Beat(platform.node(), self._ray.get_runtime_context().get_node_id(), os.getpid(), 0.0, STEP)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def tell(self, share: float, moment: Moment) -> None:
        """Remember how far the trial is, until the next beat."""
        self._last = replace(self._last, share=share, moment=moment)

    def _beat(self) -> None:
        while not self._over.wait(self._beat_s):
            self._say()

    def _say(self, wait_s: float = 0.0) -> None:
        # Whatever becomes of the board, the trial goes on.
        with suppress(Exception):
            said = self._board.tell.remote(self._token, self._last)
            if wait_s:
                self._ray.get(said, timeout=wait_s)

    def __enter__(self) -> Self:
        # The first word is waited for: of a trial that began it must be known, so that it can be missed.
        self._say(ANSWER_S)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
