"""Worker processes on this machine, one task at a time each. One that dies takes its own task with it, and no other.

Small networks leave a device mostly idle, because Python launches their short kernels too slowly; several processes launch
side by side, which threads of one process cannot.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import cloudpickle

from triaxis.errors import ConfigError

Task = TypeVar("Task")
Reply = TypeVar("Reply")
Say = Callable[[Any], None]
"""Sends something to the driver while a task is under way."""

Work = Callable[[Any, Say], Any]
"""Does a task: takes it and what says how far it is, and returns the reply. All three pickle."""

STOP_S = 5.0
"""A process that was told to end has so long before it is killed."""


@dataclass(frozen=True)
class Said(Generic[Task]):
    """Something that was said while a task is under way."""

    task: Task
    word: Any


@dataclass(frozen=True)
class Replied(Generic[Task]):
    """The end of a task."""

    task: Task
    reply: Any


@dataclass(frozen=True)
class Died(Generic[Task]):
    """The end of a task whose process ended without a word; a negative `code` is the number of the signal that killed it."""

    task: Task
    code: int | None


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    is_open: bool = False
    task: Any = None
    is_busy: bool = False


class Workers(Generic[Task]):
    """Up to `num` processes that do tasks.

    Args:
        open_work: Called once in each process, gives the work; must pickle.
        num: Processes.

    Raises:
        ConfigError: `open_work` cannot be sent to another process.
    """

    def __init__(self, open_work: Callable[[], Work], num: int) -> None:
        self._num = num
        self._waiting: deque[Task] = deque()
        self._workers: list[_Worker] = []
        # A forked process cannot use CUDA, nor the threads of the maths library.
        self._context = multiprocessing.get_context("spawn")
        try:
            # By value where it is of a script or of another function, as a data set of the user's own may be.
            self._sent = cloudpickle.dumps(open_work)
        except Exception as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise ConfigError(
                f"What worker processes are given must pickle, but {reason}: put the classes and functions of your own into a module "
                "that can be imported, or take the executor serial."
            ) from error

    def __enter__(self) -> Workers[Task]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, task: Task) -> None:
        """Take one task."""
        self._waiting.append(task)

    def next_event(self) -> Said[Task] | Replied[Task] | Died[Task]:
        """Wait for what happens next to any task that was submitted.

        Raises:
            ConfigError: A process ended before it could do anything.
            Exception: Whatever the work raised.
        """
        while True:
            self._hand_out()
            by_pipe = {worker.pipe: worker for worker in self._workers if worker.is_busy or not worker.is_open}
            assert by_pipe, "nothing is under way"
            for pipe in wait(list(by_pipe)):
                event = self._hear(by_pipe[pipe])  # type: ignore[index]
                if event is not None:
                    return event

    def close(self) -> None:
        """Stop all processes; what they were at is lost."""
        for worker in self._workers:
            worker.process.terminate()
        while self._workers:
            self._bury(self._workers[-1])

    def _hand_out(self) -> None:
        """Give each waiting task to an idle process; start as many as are needed, and no more than there may be."""
        idle = [worker for worker in self._workers if worker.is_open and not worker.is_busy]
        while idle and self._waiting:
            worker = idle.pop()
            try:
                worker.pipe.send_bytes(pickle.dumps(self._waiting[0]))
            except OSError:  # it has died since it was last heard of
                self._bury(worker)
                continue
            worker.task, worker.is_busy = self._waiting.popleft(), True
        starting = sum(not worker.is_open for worker in self._workers)
        for _ in range(min(self._num - len(self._workers), len(self._waiting) - starting)):
            self._start()

    def _start(self) -> None:
        pipe, other = self._context.Pipe()
        # No daemon: a task may have processes of its own, such as those that load images.
        process = self._context.Process(target=_serve, args=(other,), daemon=False)
        worker = _Worker(process, pipe)
        process.start()
        self._workers.append(worker)
        other.close()
        with suppress(OSError):
            pipe.send_bytes(self._sent)

    def _hear(self, worker: _Worker) -> Said[Task] | Replied[Task] | Died[Task] | None:
        try:
            kind, word = pickle.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            code = self._bury(worker)
            if not worker.is_open:
                raise ConfigError(
                    f"A worker process must be able to start, but it ended with code {code} before its first task, and its own words are "
                    'above: a script that starts them must do so under `if __name__ == "__main__":`.'
                ) from None
            return Died(worker.task, code) if worker.is_busy else None
        if kind == "open":
            worker.is_open = True
            return None
        if kind == "said":
            return Said(worker.task, word)
        task, worker.task, worker.is_busy = worker.task, None, False
        if kind == "raised":
            error, trace = word
            raise error from RuntimeError(f"in a worker process:\n{trace}")
        return Replied(task, word)

    def _bury(self, worker: _Worker) -> int | None:
        """Wait for the end of a process, make sure of it, and return its code."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(STOP_S)
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
        return worker.process.exitcode


def replies(
    tasks: Sequence[Task], open_work: Callable[[], Callable[[Task], Reply]], num: int, on_death: Callable[[Task], Reply]
) -> Iterator[Reply]:
    """Yield the reply to each task as it comes, `num` tasks at a time.

    Args:
        tasks: Anything that pickles.
        open_work: Called once in each worker process, gives the function of a task; must pickle.
        num: Processes.
        on_death: Replies, in this process, to a task whose worker died.

    Raises:
        ConfigError: The processes cannot be started.
        Exception: Whatever the work raised.
    """
    with Workers[Task](_Silently(open_work), num) as workers:
        for task in tasks:
            workers.submit(task)
        for _ in tasks:
            event = workers.next_event()
            yield on_death(event.task) if isinstance(event, Died) else event.reply  # type: ignore[union-attr]


@dataclass(frozen=True)
class _Silently:
    """Opens work that says nothing on its way."""

    open_work: Callable[[], Callable[[Any], Any]]

    def __call__(self) -> Work:
        work = self.open_work()
        return lambda task, say: work(task)


def _serve(pipe: Connection) -> None:
    """Do tasks as long as the driver lives, as a worker process."""
    # Ctrl-C reaches the whole group; the driver alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()

    try:
        work = pickle.loads(_received(pipe))()
        _send(pipe, "open", None)
        while True:
            task = pickle.loads(_received(pipe))
            _send(pipe, "replied", work(task, lambda word: _send(pipe, "said", word)))
    except Exception as error:  # noqa: BLE001 - the driver raises it
        _send(pipe, "raised", (_sendable(error), traceback.format_exc()))


def _received(pipe: Connection) -> bytes:
    try:
        return pipe.recv_bytes()
    except (EOFError, OSError):
        sys.exit()  # the driver needs no more


def _send(pipe: Connection, kind: str, word: Any) -> None:
    packed = pickle.dumps((kind, word))
    try:
        pipe.send_bytes(packed)
    except OSError:
        sys.exit()


def _sendable(error: Exception) -> Exception:
    """Return an error as it is, or in words if it does not pickle."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickling runs code of the error's own
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _follow_parent() -> None:
    """End with the driver, even if it was killed: the next one would find the device taken."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
