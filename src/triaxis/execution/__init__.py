"""How trials are carried out: one after another, or many at once. Ray is imported only when it is asked for."""

from __future__ import annotations

from triaxis.execution.base import Executor, Work, run_trials
from triaxis.execution.processes import ProcessesExecutor
from triaxis.execution.serial import SerialExecutor
from triaxis.execution.share import Share

__all__ = ["Executor", "ProcessesExecutor", "SerialExecutor", "Share", "Work", "make_executor", "run_trials"]


def make_executor(
    name: str,
    workers: int | None = None,
    *,
    address: str | None = None,
    share: Share | None = None,
    retries: int = 2,
    silent_s: float = 600.0,
) -> Executor:
    """Return the executor that the configuration names, ``serial``, ``processes`` or ``ray``.

    Args:
        name: Its name; the rest is for those that do many trials at once, `address` and `silent_s` for ray alone.
        workers: Trials at once; None takes as many as fit.
        address: Of a running cluster; None starts Ray on this machine.
        share: What a trial takes of a node.
        retries: Times that a trial is started again after its process or node was lost.
        silent_s: A trial that was not heard of for so long counts as lost; 0 waits for ever.

    Raises:
        MissingDependencyError: Ray is asked for and not installed.
    """
    if name == "serial":
        return SerialExecutor()
    if name == "processes":
        return ProcessesExecutor(workers, share=share or Share(), retries=retries)
    from triaxis.execution.ray import RayExecutor

    return RayExecutor(workers, address=address, share=share or Share(), retries=retries, silent_s=silent_s)
