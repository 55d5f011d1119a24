"""The state of a training saved while it goes on: the training's thread copies it, a thread in the background writes the copy.

At most one copy is under way. A state that was saved stays until the next one is complete and durable.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor
from torch.utils._pytree import tree_map_only

from triaxis.process.interrupt import postponed
from triaxis.process.walltime import part
from triaxis.training.resume import remove_resume, write_resume

SHARE = 0.01
"""Between two states that nobody waits for, saving may take this share of the time."""


class Saving:
    """Saves the states of one training, one after the other; leaving its context waits for the last one.

    Args:
        path: The file; None saves nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.is_void = False
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._cost_s = 0.0
        self._saved_at = time.monotonic()

    def age_s(self) -> float:
        """Return the seconds since the last state was copied, or since the training began."""
        return time.monotonic() - self._saved_at

    def pays(self, every_s: float) -> bool:
        """Whether a state may be saved before `every_s` seconds are over: it is cheap beside the training since the last one."""
        return self.age_s() >= min(every_s, self._cost_s / SHARE)

    def save(self, state: dict[str, Any], *, wait: bool = False) -> None:
        """Copy a state and write it in the background; `wait` returns when it is durable.

        Raises:
            StoreError: This state, with `wait`, or the one before could not be written.
        """
        if self.path is None:
            return
        start = time.perf_counter()
        self.finish()
        copied = snapshot(state)
        self._thread = threading.Thread(target=self._write, args=(self.path, copied), name="triaxis-saving")
        self._saved_at, self._cost_s = time.monotonic(), time.perf_counter() - start
        self._thread.start()
        if wait:
            self.finish()

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        start = time.thread_time()
        try:
            write_resume(path, state)
        except BaseException as error:  # noqa: BLE001  (the training's thread raises it)
            self._error = error
        # On a CPU the processor time of this thread is taken from the training.
        self._cost_s += time.thread_time() - start

    def check(self) -> None:
        """Raise what stopped the last state from being written, if that is known already."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def finish(self) -> None:
        """Wait until the last state is durable.

        Raises:
            StoreError: It could not be written.
        """
        self._join()
        self.check()

    def _join(self) -> None:
        if self._thread is not None:
            with postponed():
                self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._join()
        if self.is_void and self.path is not None:
            remove_resume(self.path)
        if kind is None:
            self.check()


@part("checkpoints")
def snapshot(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of plain data and tensors that training does not change any more, the tensors on the CPU."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), state)
