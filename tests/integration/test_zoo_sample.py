"""A sample of the zoo: six small models of six families, cut along every axis and checked as `make zoo` does, without ONNX."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "zoo.py"
spec = importlib.util.spec_from_file_location("zoo", SCRIPT)
assert spec and spec.loader
zoo = sys.modules["zoo"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much where the cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", zoo.SAMPLE)
def test_a_sample_is_cut_right_along_every_axis(name: str) -> None:
    row = zoo.examine(name, onnx=False)
    assert row["problems"] == []
    assert row["closed"] == {}
    assert all(cut["macs"] < 1 for cut in row["cuts"].values())


def test_the_page_tells_what_is_closed_and_what_is_wrong() -> None:
    fine = {"closed": {"width": "No channel can go."}, "problems": [], "cuts": {"depth": {"ratios": (0.5, 1.0, 1.0), "macs": 0.6}}}
    wrong = {"closed": {}, "problems": ["all: differs after a reload"], "cuts": {}}
    text = zoo.page({"torchvision:resnet18": fine, "torchvision:resnet50": wrong})
    assert "| 0.50 (60 %) | closed |" in text and "No channel can go." in text and "differs after a reload" in text


def test_an_error_becomes_a_row() -> None:
    def fails(name: str, onnx: bool) -> dict[str, object]:
        raise ValueError("no such shape")

    assert zoo.guarded("any", False, fails)["problems"] == ["ValueError: no such shape"]
