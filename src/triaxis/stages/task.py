"""The task that a configuration names, with the settings that are its own."""

from __future__ import annotations

from triaxis.config import Config
from triaxis.tasks import Task, make_task


def task_of(config: Config) -> Task:
    """Return what a run's network is trained for.

    Raises:
        ConfigError: There is no such task.
    """
    settings = config.segmentation.model_dump() if config.task == "segmentation" else None
    return make_task(config.task, target=config.fit.target, settings=settings)
