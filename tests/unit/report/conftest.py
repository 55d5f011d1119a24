"""The example run, made once."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from triaxis.report.records import Records


@pytest.fixture(scope="session")
def make_records() -> Callable[..., Records]:
    return runpy.run_path(str(Path(__file__).with_name("example_records.py")))["example_records"]


@pytest.fixture(scope="session")
def records(make_records: Callable[..., Records]) -> Records:
    return make_records(0.25)
