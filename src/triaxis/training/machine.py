"""What a run learns about its machine while it trains: how many threads are fastest, and how much of a batch fits in memory.

The threads of the maths library wait for each other at the end of every operation. On a small network, or beside another
busy process, many threads are therefore slower than one, by up to a hundred times. How many are used changes the last digits of
the results, as sums are taken in another order; a run keeps its number, unless the speed falls by half.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import torch
from torch import nn

from triaxis.training.mode import Mode
from triaxis.training.stopwatch import LossOf, in_turns, squares, training_step

log = logging.getLogger(__name__)

ENOUGH = 0.9
"""Fewer threads are taken where they reach this share of the best speed: they suffer less from other processes."""

SWITCH_GAIN = 0.2
"""In the middle of a run another number of threads must make more than this share more steps a second."""

FALL = 0.5
"""Where the speed falls below this share of the best that was seen, the threads are measured again."""

WINDOW_S = 2.0
"""Speeds are means over this time, or over one step where that takes longer."""

PATIENCE = 20.0
"""Between two measurements in the middle of a training lies this many times the time that one takes."""

BUSY = 0.2
"""Above this share of the machine in the hands of other processes, the user is told."""

Shape = tuple[int, int, int, int]
TimeAll = Callable[[Mapping[int, Callable[[], float]]], Mapping[int, float]]


@dataclass
class Machine:
    """What is known of the machine; changes are told to `remember`.

    Args:
        threads: Of training.
        most: Threads to choose from, and those that latency is measured with.
        is_free: Whether `threads` may change.
        batch_parts: Into how many parts a batch is split so that it fits in memory.
        remember: Called after each change.
        loss_of: Runs a network in the steps that are timed, and gives the loss.
    """

    threads: int = field(default_factory=torch.get_num_threads)
    most: int = field(default_factory=torch.get_num_threads)
    is_free: bool = False
    batch_parts: int = 1
    remember: Callable[[Machine], None] | None = None
    loss_of: LossOf = squares

    def look_again(
        self, model: nn.Module, shape: Shape, device: torch.device, mode: Mode, share: float, time_all: TimeAll = in_turns
    ) -> None:
        """Measure the threads again because the speed has fallen to `share` of what it was, and change their number if that helps much."""
        try:
            seconds = time_threads(model, shape, device, mode, candidates(self.most, self.threads), time_all, self.loss_of)
        except (RuntimeError, MemoryError) as error:
            # The copy that is timed needs memory beside the training, which goes on without it.
            if not is_out_of_memory(error):
                raise
            return
        best, before = fewest_enough(seconds), self.threads
        slowed = f"training has slowed down to {share:.0%} of the speed that it had"
        if seconds[before] <= (1 + SWITCH_GAIN) * seconds[best]:
            log.warning("%s, and another number of threads than %d would not help: other processes may be busy", slowed, before)
            return
        self.threads = best
        torch.set_num_threads(best)
        gain = seconds[before] / seconds[best]
        log.warning("%s: it goes on with %d instead of %d threads, %.1f times as fast; last digits may change", slowed, best, before, gain)
        self._remember()

    def split_batch(self, num_images: int) -> bool:
        """Split batches into twice as many parts because one of `num_images` did not fit in memory; return whether that is possible."""
        parts = 2 * self.batch_parts
        # Batch norm needs two images.
        if num_images // parts < 2:
            return False
        self.batch_parts = parts
        log.warning(
            "a batch of %d images does not fit in memory: it is trained in %d parts whose gradients are added up; "
            "the step stays the same, but batch norm sees about %d images at a time",
            num_images, parts, num_images // parts,
        )  # fmt: skip
        self._remember()
        return True

    def _remember(self) -> None:
        if self.remember:
            self.remember(self)


class Pace:
    """Watches the speed of one training, and calls for help when it has fallen by half.

    Args:
        on_fall: Called with the speed's share of the best that was seen.
        clock: Gives the time in seconds.
    """

    def __init__(self, on_fall: Callable[[float], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._on_fall, self._clock = on_fall, clock
        self._since: float | None = None
        self._images, self._best, self._not_before = 0, 0.0, 0.0

    def begin(self) -> None:
        """Start anew: what happened since the last step was no training."""
        self._since = None

    def step(self, num_images: int) -> None:
        """Note that a step on `num_images` has ended."""
        now = self._clock()
        if self._since is None:
            self._since, self._images = now, 0
            return
        self._images += num_images
        if now - self._since < WINDOW_S:
            return
        speed = self._images / (now - self._since)
        self._since, self._images = now, 0
        if speed >= FALL * self._best or now < self._not_before:
            self._best = max(self._best, speed)
            return
        self._on_fall(speed / self._best)
        self._best, self._since = 0.0, None
        self._not_before = self._clock() + PATIENCE * (self._clock() - now)


def candidates(most: int, *more: int) -> tuple[int, ...]:
    """Return the numbers of threads that are tried, falling: all, half of them, one, and `more`."""
    return tuple(sorted({most, max(1, most // 2), 1, *more}, reverse=True))


def time_threads(
    model: nn.Module,
    shape: Shape,
    device: torch.device,
    mode: Mode,
    counts: tuple[int, ...],
    time_all: TimeAll = in_turns,
    loss_of: LossOf = squares,
) -> Mapping[int, float]:
    """Return the median seconds of a training step on each number of threads; random numbers and `model` stay as they were."""

    def on(count: int) -> float:
        torch.set_num_threads(count)
        return step()

    with torch.random.fork_rng(devices=[]), num_threads():
        step = training_step(model, shape, device, mode, loss_of)
        return time_all({count: functools.partial(on, count) for count in counts})


def fewest_enough(seconds: Mapping[int, float]) -> int:
    """Return the smallest number of threads that reaches 90 % of the best speed."""
    best = min(seconds.values())
    return min(count for count, found in seconds.items() if best >= ENOUGH * found)


@contextmanager
def num_threads(count: int | None = None) -> Iterator[None]:
    """Work on `count` threads, where it is given; when the context is left, their number is again what it was."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class CpuTime:
    """Seconds of one moment: on the clock, of all cores at work, and of this process and its children at work."""

    clock: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> CpuTime:
        """Read them."""
        total = psutil.cpu_times()
        # On Linux a guest's time is within the user's.
        idle = sum(getattr(total, name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
        own = 0.0
        for process in (me := psutil.Process(), *me.children(recursive=True)):
            try:
                times = process.cpu_times()
                own += times.user + times.system
            except psutil.Error:  # a child may end at any moment
                continue
        return cls(time.perf_counter(), sum(total) - idle, own)


def share_of_others(before: CpuTime, after: CpuTime, num_cores: int) -> float | None:
    """Return the share of the machine that other processes took between two moments, or None where these are too close to tell."""
    seconds = after.clock - before.clock
    if seconds < 0.2:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, others / (seconds * num_cores)))


def warn_if_busy(since: CpuTime) -> None:
    """Say it if other processes took much of the machine since a moment."""
    num_cores = psutil.cpu_count() or 1
    share = share_of_others(since, CpuTime.now(), num_cores)
    if share is not None and share > BUSY:
        log.warning(
            "other processes use %.0f %% of this machine's %d cores: training is slower, and latencies are longer, than on an idle one",
            100 * share, num_cores,
        )  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too small for what was asked."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    signs = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
