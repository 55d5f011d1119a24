"""How trials are carried out: one after another, or many at once. Ray is imported only when it is asked for."""

from __future__ import annotations

from triaxis.execution.base import Executor, run_trials
from triaxis.execution.processes import ProcessesExecutor
from triaxis.execution.serial import SerialExecutor

__all__ = ["Executor", "ProcessesExecutor", "SerialExecutor", "make_executor", "run_trials"]


def make_executor(name: str, workers: int = 1) -> Executor:
    """Return the executor that the configuration names, ``serial``, ``processes`` or ``ray``.

    Raises:
        MissingDependencyError: Ray is asked for and not installed.
    """
    if name == "serial":
        return SerialExecutor()
    if name == "processes":
        return ProcessesExecutor(workers)
    from triaxis.execution.ray import RayExecutor

    return RayExecutor(workers)
