"""Processes that decode images: one that dies, as for lack of memory, is replaced, and the batches that follow are the same.

torch raises the death of a worker in the main thread wherever that is, such as between two halves of a training step. Here it
is heard only while a batch is waited for, where nothing can be torn apart.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch._C import _error_if_any_worker_fails
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from triaxis.errors import DataError
from triaxis.process.interrupt import requested

log = logging.getLogger(__name__)

LIVES = 3
"""Workers of which the death is borne in one pass over the images."""

DEATHS = ("exited unexpectedly", "killed by signal")

_state: dict[str, Any] = {}


class Decoding:
    """One pass over images: a worker that dies is replaced by others, which go on at the batch that was lost.

    Args:
        make: Makes a loader, whose sampler of batches has attributes ``requests`` and ``batch_size``.
        loader: One that is kept from another pass, if any; afterwards the one to keep.
        name: Of the split, for sentences.
    """

    def __init__(self, make: Callable[[], DataLoader], loader: DataLoader | None, name: str) -> None:
        self._make, self.loader, self._name = make, loader, name
        self._num_dead = 0

    def batches(self, requests: Sequence[Any], batch_size: int) -> Iterator[Any]:
        """Yield what is collated of the requests, batch by batch; its last part is as long as the batch.

        Raises:
            DataError: Too many workers died.
        """
        while requests:
            loader = self._make() if self.loader is None else self.loader
            self.loader = loader
            sampler: Any = loader.batch_sampler
            sampler.requests, sampler.batch_size = requests, batch_size
            try:
                for batch in _heard(loader):
                    requests = requests[len(batch[-1]) :]
                    yield batch
            except Exception as error:
                self.loader = None  # Workers of which one failed serve no other epoch.
                if not _is_death(error):
                    raise
                self._bury(error)

    def _bury(self, error: Exception) -> None:
        self._num_dead += 1
        reason = str(error).partition("\n")[0].rstrip(". ")
        if self._num_dead > LIVES:
            raise DataError(
                f"The processes that decode the {self._name} images must live, but {self._num_dead} died, the last with '{reason}': "
                "memory may be short; lower data.workers, and run the same command again."
            ) from error
        log.warning("a process that decodes the %s images died (%s): another takes its place, and nothing is lost", self._name, reason)


def _is_death(error: Exception) -> bool:
    """Whether torch says that a worker has died; not where a signal asked this process to stop, which reaches its workers too."""
    return "DataLoader worker" in str(error) and any(words in str(error) for words in DEATHS) and not requested()


def _heard(loader: DataLoader) -> Iterator[Any]:
    """Yield the batches of a loader; the death of a worker is raised here and nowhere else."""
    if not loader.num_workers or threading.current_thread() is not threading.main_thread():
        yield from loader
        return
    # Before the first one torch knows no workers, and later those that are kept may have died meanwhile.
    _error_if_any_worker_fails()
    iterator = _begun(loader)
    while True:
        batch = _next(iterator)
        if batch is None:
            return
        yield batch


def _begun(loader: DataLoader) -> Iterator[Any]:
    if not _state:
        _take_over()
    return iter(loader)


def _take_over() -> None:
    """Let torch set its handler, which it does once in a process, while there is no worker; then put it away."""
    before = signal.getsignal(signal.SIGCHLD)
    signal_handling._set_SIGCHLD_handler()
    theirs = signal.getsignal(signal.SIGCHLD)
    is_torchs = getattr(theirs, "__module__", "") == signal_handling.__name__
    _state["handler"] = theirs if is_torchs else None
    if is_torchs:
        signal.signal(signal.SIGCHLD, before if callable(before) and before != theirs else signal.SIG_DFL)


def _next(iterator: Iterator[Any]) -> Any:
    handler = _state.get("handler")
    if handler is None:
        return next(iterator, None)
    quiet = signal.signal(signal.SIGCHLD, handler)
    try:
        _error_if_any_worker_fails()
        return next(iterator, None)
    finally:
        signal.signal(signal.SIGCHLD, quiet)
