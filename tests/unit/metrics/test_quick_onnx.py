"""The file that is only timed: written quickly where that works, rightly in any case."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from triaxis.metrics.runtimes import onnx as file
from triaxis.metrics.runtimes.onnx import run_onnx, write_quickly
from triaxis.models.weights import load_model
from triaxis.tasks.outputs import difference


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.conv(x)
        return {"logits": y.mean((2, 3)), "aux": y.amax((2, 3))}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("network", [load_model("cifar:resnet8", {}, 10).model, TwoHeads()], ids=["resnet", "two outputs"])
def test_the_file_computes_what_the_network_computes(tmp_path: Path, network: nn.Module, batch: int) -> None:
    network.eval()
    runner = run_onnx(write_quickly(tmp_path / "m.onnx", network, (3, 16, 16), batch))
    images = torch.randn(batch, 3, 16, 16)
    assert difference(runner(images), network(images)) < 1e-4


def test_it_takes_a_small_part_of_the_time_of_the_delivered_file(tmp_path: Path) -> None:
    network = load_model("cifar:resnet20", {}, 10).model.eval()

    def seconds(write: object) -> float:
        start = time.process_time()
        write()  # type: ignore[operator]
        return time.process_time() - start

    quick = min(seconds(lambda: write_quickly(tmp_path / "q.onnx", network, (3, 32, 32), 1)) for _ in range(2))
    assert quick < 0.4 * seconds(lambda: file.write_onnx(tmp_path / "m.onnx", network, (3, 32, 32)))


@pytest.mark.parametrize("fault", ["refuses", "writes another network"])
def test_what_the_quick_exporter_cannot_write_the_other_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    network = load_model("cifar:resnet8", {}, 10).model.eval()
    true_export, asked = torch.onnx.export, []

    def export(model: nn.Module, *args: object, dynamo: bool, **kwargs: object) -> object:
        asked.append(dynamo)
        if not dynamo and fault == "refuses":
            raise RuntimeError("no such operator")
        other = nn.Sequential(model, nn.Softmax(1)).eval() if not dynamo else model
        return true_export(other, *args, dynamo=dynamo, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.onnx, "export", export)
    runner = run_onnx(write_quickly(tmp_path / "m.onnx", network, (3, 16, 16), 1))
    images = torch.randn(1, 3, 16, 16)
    assert asked == [False, True]
    assert difference(runner(images), network(images)) < 1e-4
