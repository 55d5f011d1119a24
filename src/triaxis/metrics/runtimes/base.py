"""What a runtime is: something that runs a network, so that it can be timed.

The contract, which `triaxis.testing.RuntimeContract` checks:

* A runtime is made with the ``torch.device`` to run on; one that has no use for it may ignore it.
* `require` says what is missing, before anything is trained.
* `prepare` compiles, exports or uploads a copy of the network, warms it up, and returns a call. Each call runs one batch of
  images in evaluation mode, waits until it is done, and returns the milliseconds it took.
* A network that it cannot run raises anything in `prepare`; that becomes a `RefusedModelError`, and other cuts go on.
* A runtime may have `is_slow`, True where a reading takes seconds (it then is a median itself, is taken once a round and is kept
  in the store), and `identity`, a text of all that decides a reading beside the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from torch import nn

from triaxis.metrics.base import Reading, Shape

WARMUP_CALLS = 3


class Runtime(Protocol):
    """Runs networks."""

    name: str

    def require(self) -> None:
        """Make sure that the runtime can work here.

        Raises:
            MissingDependencyError: A package is missing.
        """
        ...

    def prepare(self, model: nn.Module, input_shape: Shape, batch: int) -> Reading:
        """Return the call that runs `batch` images of (C, S, S) through a copy of `model`, and gives the milliseconds."""
        ...


def timed(call: Callable[[], object]) -> Reading:
    """Return the reading that times a call which does the work and waits for it, after warming it up."""
    for _ in range(WARMUP_CALLS):
        call()

    def milliseconds() -> float:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3

    return milliseconds
