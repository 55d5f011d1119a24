"""How trials are carried out: one after another, or many at once. Ray is imported only when it is asked for."""

from __future__ import annotations

from triaxis.execution.base import Executor, run_trials
from triaxis.execution.serial import SerialExecutor

__all__ = ["Executor", "SerialExecutor", "make_executor", "run_trials"]


def make_executor(name: str, workers: int = 1) -> Executor:
    """Return the executor that the configuration names, ``serial`` or ``ray``.

    Raises:
        MissingDependencyError: Ray is asked for and not installed.
    """
    if name == "serial":
        return SerialExecutor()
    from triaxis.execution.ray import RayExecutor

    return RayExecutor(workers)
