"""What a backend's author, and our own tests, need: contract suites to subclass, and a trainer with a known optimum.

A new store is tested by a class of three lines::

    class TestMyStore(StoreContract):
        @pytest.fixture()
        def make_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "store")
"""

from __future__ import annotations

import pytest

# So that a failing suite shows the values in its assertions, as a test file's own do.
pytest.register_assert_rewrite(*(f"triaxis.testing.{suite}" for suite in ("stores", "executors", "criteria", "metrics", "tasks")))

from triaxis.testing.criteria import CriterionContract  # noqa: E402
from triaxis.testing.executors import ExecutorContract  # noqa: E402
from triaxis.testing.metrics import MetricContract, RuntimeContract  # noqa: E402
from triaxis.testing.stores import StoreContract  # noqa: E402
from triaxis.testing.tasks import TaskCase, TaskContract  # noqa: E402
from triaxis.testing.trainer import FakeTrainer, chain_specs  # noqa: E402

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
