from __future__ import annotations

from collections.abc import Iterator

import pytest

from triaxis.execution import Executor, SerialExecutor, make_executor
from triaxis.testing import ExecutorContract


class TestSerialExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return SerialExecutor()


class TestRayExecutor(ExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def cluster(cls) -> Iterator[None]:
        ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()

    @pytest.fixture
    def executor(self, cluster: None) -> Executor:
        return make_executor("ray", workers=2)
