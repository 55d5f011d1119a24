"""Several networks at once: worker processes that share one device, each with its own copy of the images on it.

Small networks leave a GPU mostly idle, because Python launches their short kernels too slowly; several processes launch
side by side, which threads of one process cannot.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Work = Callable[[Any], Any]

_work: Work | None = None


def answers(
    tasks: Sequence[Task], open_work: Callable[[], Callable[[Task], Answer]], num_workers: int, on_death: Callable[[Task], Answer]
) -> Iterator[Answer]:
    """Yield the answer of each task as it comes, `num_workers` at a time.

    A worker that dies, for example for want of memory, takes down those beside it: `on_death` answers for the tasks that
    were under way, and new workers go on with the rest.

    Args:
        tasks: Anything that pickles.
        open_work: Called once in each worker process, gives the function of a task; must pickle.
        num_workers: Processes.
        on_death: Answers, in this process, for a task whose worker died.

    Raises:
        Exception: Whatever the work raised.
    """
    waiting = deque(tasks)
    while waiting:
        with _pool(open_work, num_workers) as pool:
            yield from _until_death(pool, waiting, num_workers, on_death)


def _until_death(pool: ProcessPoolExecutor, waiting: deque[Task], num_workers: int, on_death: Callable[[Task], Answer]) -> Iterator[Answer]:
    """Yield answers until all tasks are done or a worker has died; what was not begun stays in `waiting`."""
    running: dict[Future[Answer], Task] = {}
    is_whole = True
    while running or (waiting and is_whole):
        # Only what can start at once is handed over, so that a death takes no more tasks than there are workers.
        while is_whole and waiting and len(running) < num_workers:
            try:
                running[pool.submit(_do, waiting[0])] = waiting[0]
                waiting.popleft()
            except BrokenProcessPool:
                is_whole = False
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            try:
                answer = future.result()
            except BrokenProcessPool:
                is_whole, answer = False, on_death(task)
            yield answer


@contextmanager
def _pool(open_work: Callable[[], Work], num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start the workers, and stop them at once when the context is left early."""
    before = set(multiprocessing.active_children())
    # A forked process cannot use CUDA.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start, initargs=(open_work,))
    try:
        yield pool
        pool.shutdown()
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        pool.shutdown(wait=False, cancel_futures=True)


def _start(open_work: Callable[[], Work]) -> None:
    """Get a worker process ready."""
    global _work
    # Ctrl-C reaches the whole group; the driver alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _work = open_work()


def _follow_parent() -> None:
    """End with the driver, even if it was killed: the next one would find the device taken."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(task: Any) -> Any:
    assert _work is not None
    return _work(task)
