"""Many trials at once, on the cores and machines that Ray finds. The only file that imports ray.

What a trial needs is sent to it through Ray's object store, and what it made comes back the same way: no disk is shared, and
the driver alone writes. A trial whose process or node is lost is started again, here and not by Ray, so that it is known,
said and counted. A running trial tells the `Board`, beside the driver, every few seconds how far it is.
"""

from __future__ import annotations

import logging
import platform
import signal
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from triaxis.errors import ConfigError, MissingDependencyError, TriaxisError
from triaxis.execution.base import Do, Work, attempt, failed, kept
from triaxis.execution.board import ANSWER_S, Beat, Beats, Board
from triaxis.execution.share import Share, num_places
from triaxis.process.interrupt import postponed
from triaxis.values import TrialResult, TrialSpec

log = logging.getLogger(__name__)

BEAT_S = 2.0
"""A running trial tells how far it is, and the driver listens, once in this time."""

LOOK_S = 30.0
"""How often the driver asks which nodes there are."""


class RayExecutor:
    """Carries out many trials at once; results equal the serial executor's, since seeds come from the trials.

    Args:
        workers: Trials at once; None takes as many as fit.
        address: Of a running cluster: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; None starts Ray on this machine.
        share: What a trial takes of a node.
        retries: Times that a trial is started again after its process or node was lost.
        silent_s: A trial that began and was not heard of for so long counts as lost; 0 waits for ever.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        share: Share | None = None,
        retries: int = 2,
        silent_s: float = 600.0,
    ) -> None:
        _import_ray()
        self.workers, self.address, self.share = workers, address, share or Share()
        self.retries, self.silent_s = retries, silent_s

    def check(self) -> None:
        """Make sure, before hours of other work, that the cluster answers and that a trial fits into one of its nodes.

        Raises:
            ConfigError: There is none at the address, or its nodes are too small.
        """
        if self.address is not None:
            with _connected(self.address) as ray:
                self.share.of(_nodes(ray), self.workers)

    @contextmanager
    def session(self, work: Work) -> Iterator[RaySession]:
        """Connect to the cluster, or start Ray on this machine, and stop at the end what this began.

        Raises:
            ConfigError: There is no cluster at the address, or its nodes are too small.
        """
        with _connected(self.address) as ray:
            session = RaySession(ray, work, self)
            try:
                yield session
            finally:
                session.cancel()


@dataclass(frozen=True)
class _Try:
    """One start of a trial; `token` names it on the board."""

    spec: TrialSpec
    number: int
    token: str


class RaySession:
    """Ray tasks, each with its share of a node."""

    def __init__(self, ray: Any, work: Work, executor: RayExecutor) -> None:
        self._ray, self._work, self._executor = ray, work, executor
        self._share = executor.share.of(_nodes(ray), executor.workers)
        # Never started again by Ray itself, which would not say so.
        self._task = ray.remote(**self._share, max_retries=0)(_on_node)
        self._do, self._key = ray.put(work.do), uuid.uuid4().hex
        self._board = _board_of(ray)
        silent_s = executor.silent_s
        self._beat_s = min(BEAT_S, silent_s / 5) if silent_s else BEAT_S
        self._waiting: deque[tuple[TrialSpec, int]] = deque()
        self._running: dict[Any, _Try] = {}
        self._looked = self._heard = -float("inf")
        self._most = 1

    def submit(self, spec: TrialSpec) -> None:
        """Take one trial; it starts as soon as its share of a node is free."""
        self._waiting.append((spec, 1))

    def next_result(self) -> TrialResult:
        """Wait for any running trial, and listen meanwhile to all.

        Raises:
            TriaxisError: Work that ends the experiment, such as a node that has other images, or a full disk.
        """
        while True:
            # A signal that came inside Ray's own code would be lost there.
            with postponed():
                self._start()
                done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=BEAT_S)
                if done and (result := self._finished(done[0])) is not None:
                    return result
                self._listen()

    def cancel(self) -> None:
        """Stop what still runs."""
        with suppress(self._ray.exceptions.RayError):
            for task in self._running:
                self._ray.cancel(task, force=True)
        self._running.clear()

    def _start(self) -> None:
        """Start as many trials as fit, and some to follow at once: what is sent lies in memory from then on."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            places = num_places(_nodes(self._ray), self._share)
            self._most = self._executor.workers or places + (places + 1) // 2 or 1
            if not places:
                log.warning("no node of the Ray cluster has room for a trial now: waiting for one")
        while self._waiting and len(self._running) < self._most:
            spec, number = self._waiting.popleft()
            tried = _Try(spec, number, uuid.uuid4().hex)
            task = self._task.remote([self._do], self._key, spec, self._work.prepare(spec), self._board, tried.token, self._beat_s)
            self._running[task] = tried

    def _finished(self, task: Any) -> TrialResult | None:
        """Return the result of a task that ended, or None if the trial is to be started again."""
        tried, errors = self._running.pop(task), self._ray.exceptions
        try:
            result, made = self._ray.get(task)
        except errors.RayTaskError as error:
            raise _fatal(error.cause) from error
        except errors.RayError as error:
            return self._again(tried, str(error).strip().partition("\n")[0].rstrip("."))
        return kept(self._work, result, made)

    def _again(self, tried: _Try, reason: str) -> TrialResult | None:
        if tried.number > self._executor.retries:
            return failed(tried.spec, f"the worker process ended, {tried.number} times in all: {reason}")
        log.warning("trial %s is started again, as its process or node was lost: %s", tried.spec.trial_id, reason)
        self._waiting.appendleft((tried.spec, tried.number + 1))
        self._looked = -float("inf")
        return None

    def _listen(self) -> None:
        """Pass on what running trials tell, and give up those that were not heard of for long."""
        if time.monotonic() - self._heard < BEAT_S:
            return
        self._heard = time.monotonic()
        try:
            said = self._ray.get(self._board.said.remote([tried.token for tried in self._running.values()]), timeout=ANSWER_S)
        except self._ray.exceptions.RayError:
            return
        for task, tried in list(self._running.items()):
            if tried.token not in said:
                continue
            silence_s, beat = said[tried.token]
            if 0 < self._executor.silent_s < silence_s:
                # Its result, should one come after all, is not waited for any more: a trial counts once.
                del self._running[task]
                self._end(task, beat)
                self._give_up(tried, f"nothing was heard of it from {beat.place} for {silence_s:.0f} s")
            else:
                self._work.hear(tried.spec, beat.share, beat.moment, beat.place)

    def _end(self, task: Any, beat: Beat) -> None:
        """Cancel a task, and kill its process: one that hangs would not hear that it is cancelled."""
        self._ray.cancel(task, force=True)
        self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=pinned_to(beat.node))(_kill).remote(beat.pid)

    def _give_up(self, tried: _Try, reason: str) -> None:
        if (result := self._again(tried, reason)) is not None:
            # Its record is handed out like that of any other trial.
            task = self._ray.put((result, None))
            self._running[task] = tried


_boards: dict[str, Any] = {}
"""The board of each connection of this process to Ray, by Ray's id of it; it ends with the connection."""


def _board_of(ray: Any) -> Any:
    job, node = ray.get_runtime_context().get_job_id(), ray.get_runtime_context().get_node_id()
    if job not in _boards:
        _boards.clear()
        _boards[job] = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=pinned_to(node, soft=True))(Board).remote()
    return _boards[job]


_held: dict[str, Do] = {}
"""The work that this process has, by its key: unpacked and opened once, not for each trial."""


def _on_node(do: list[Any], key: str, spec: TrialSpec, given: Any, board: Any, token: str, beat_s: float) -> tuple[TrialResult, Any]:
    """Do one trial on a node; `do` holds the reference to the work, in a list so that Ray does not unpack it each time."""
    with Beats(_import_ray(), board, token, beat_s) as beats:
        return attempt(_work_here(do[0], key), spec, given, beats.tell)


def pinned_to(node: str, soft: bool = False) -> Any:
    """Return what tells Ray to work on one node, or, where that is `soft`, on another if it is gone."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=soft)


def _kill(pid: int) -> None:
    """End a worker process of Ray's on this node, if it still is one."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if any(word.startswith("ray::") for word in process.cmdline()):
            process.kill()


def _work_here(reference: Any, key: str) -> Do:
    if key not in _held:
        ray = _import_ray()
        try:
            do = ray.get(reference)
        except ray.exceptions.RaySystemError as error:
            raise ConfigError(
                f"Node {platform.node()} must be able to import all that the trials use, got '{str(error).strip()}': install it there."
            ) from None
        if hasattr(do, "open"):
            do.open()
        _held.clear()
        _held[key] = do
    return _held[key]


def _fatal(cause: BaseException) -> TriaxisError:
    """Return the error that ends the experiment: the work's own, or that a node could not begin."""
    if isinstance(cause, TriaxisError):
        return cause
    reason = str(cause).strip().rpartition("\n")[2] or type(cause).__name__
    return ConfigError(f"Each node of the Ray cluster must have triaxis and its packages installed, but one of them raised: {reason}.")


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine; what the caller is connected to already serves too."""
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    with _own_signals():
        if address is None:
            ray.init(include_dashboard=False, log_to_driver=False)
        else:
            _require_answer(address)
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
                raise _no_cluster(address, error) from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put the handler of SIGTERM back, in whose place Ray puts one that ends the process without a word."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _require_answer(address: str) -> None:
    """Knock at HOST:PORT first: Ray waits for minutes where nobody opens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> ConfigError:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return ConfigError(
        f"A Ray cluster must answer at the address {address}, got '{reason}': start one with `ray start --head`, "
        "or leave --address (collect.cluster.address) out to use this machine alone."
    )


def _nodes(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingDependencyError("collect.executor: ray needs the package ray: install triaxis[ray], or choose processes.") from None
    return ray
