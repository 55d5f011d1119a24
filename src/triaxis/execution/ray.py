"""Many trials at once, on the cores and machines that Ray finds. The only file that imports ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from triaxis.errors import MissingDependencyError, StoreError
from triaxis.execution.base import Work, attempt, failed
from triaxis.values import TrialResult, TrialSpec


class RayExecutor:
    """Carries out up to `workers` trials at once; results equal the serial executor's, since seeds come from the trials."""

    def __init__(self, workers: int = 1) -> None:
        _import_ray()
        self._workers = workers

    @contextmanager
    def session(self, work: Work) -> Iterator[RaySession]:
        """Start Ray where it is not running yet, and stop what this started."""
        ray = _import_ray()
        ours = not ray.is_initialized()
        if ours:
            ray.init(include_dashboard=False, log_to_driver=False)
        session = RaySession(ray, work, self._workers)
        try:
            yield session
        finally:
            session.cancel()
            if ours:
                ray.shutdown()


class RaySession:
    """Ray tasks, each with its share of the machine."""

    def __init__(self, ray: Any, work: Work, workers: int) -> None:
        self._ray = ray
        total = ray.cluster_resources()
        share = {"num_cpus": max(1, int(total.get("CPU", 1)) // workers), "num_gpus": total.get("GPU", 0) / workers}
        # Retried by hand only: a task that Ray starts again would train a trial twice.
        self._task = ray.remote(**share, max_retries=0)(attempt)
        self._work = ray.put(work)
        self._running: dict[Any, TrialSpec] = {}

    def submit(self, spec: TrialSpec) -> None:
        """Start one trial as soon as its share of the machine is free."""
        self._running[self._task.remote(self._work, spec)] = spec

    def next_result(self) -> TrialResult:
        """Wait for any running trial."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        spec = self._running.pop(done[0])
        try:
            return self._ray.get(done[0])
        except self._ray.exceptions.RayTaskError as error:
            raise StoreError(str(error.cause)) from error
        except self._ray.exceptions.RayError as error:
            return failed(spec, f"the worker process ended: {error}")

    def cancel(self) -> None:
        """Stop what still runs."""
        for task in self._running:
            self._ray.cancel(task, force=True)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingDependencyError("collect.executor: ray needs the package ray: install triaxis[ray], or choose processes.") from None
    return ray
