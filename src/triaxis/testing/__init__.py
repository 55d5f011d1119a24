"""What a backend's author, and our own tests, need: contract suites to subclass, and a trainer with a known optimum.

A new store is tested by a class of three lines::

    class TestMyStore(StoreContract):
        @pytest.fixture()
        def make_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "store")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

# So that a failing suite shows the values in its assertions, as a test file's own do.
pytest.register_assert_rewrite(*(f"triaxis.testing.{suite}" for suite in ("stores", "executors", "criteria", "metrics", "tasks")))

if TYPE_CHECKING:
    from triaxis.testing.criteria import CriterionContract
    from triaxis.testing.executors import ExecutorContract
    from triaxis.testing.metrics import MetricContract, RuntimeContract
    from triaxis.testing.stores import StoreContract
    from triaxis.testing.tasks import TaskCase, TaskContract
    from triaxis.testing.trainer import FakeTrainer, chain_specs

_HOMES = {
    "CriterionContract": "criteria",
    "ExecutorContract": "executors",
    "FakeTrainer": "trainer",
    "MetricContract": "metrics",
    "RuntimeContract": "metrics",
    "StoreContract": "stores",
    "TaskCase": "tasks",
    "TaskContract": "tasks",
    "chain_specs": "trainer",
}

__all__ = [
    "CriterionContract",
    "ExecutorContract",
    "FakeTrainer",
    "MetricContract",
    "RuntimeContract",
    "StoreContract",
    "TaskCase",
    "TaskContract",
    "chain_specs",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: most suites need torch, and the trainer does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
