"""Files of models that return several tensors hold all of them by name, and each is compared with the live model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from triaxis.deliver.onnx import write_onnx_file
from triaxis.deliver.parity import check_parity
from triaxis.deliver.pt2 import write_pt2
from triaxis.errors import ExportError
from triaxis.metrics.runtimes.onnx import run_onnx

DESCRIPTION: dict[str, Any] = {"input": [3, 8, 8], "preprocess": {}, "class_names": [], "plan": {}}


@dataclass
class Found:
    out: Tensor
    levels: list[Tensor]


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Found:
        x = self.conv(images)
        return Found(x.relu(), [x.mean((2, 3)), {"half": nn.functional.avg_pool2d(x, 2)}])  # type: ignore[list-item]


NAMES = ["out", "levels.0", "levels.1.half"]


def test_pt2_and_onnx_give_every_output_by_its_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    live, images = Several().eval(), torch.randn(3, 3, 8, 8)
    files = (
        torch.export.load(write_pt2(tmp_path / "m.pt2", live, DESCRIPTION)).module(),
        run_onnx(write_onnx_file(tmp_path / "m.onnx", live, DESCRIPTION)),
    )
    for run in files:
        found = run(images)
        assert list(found) == NAMES
        torch.testing.assert_close(found["levels.1.half"], live(images).levels[1]["half"], rtol=1e-4, atol=1e-5)  # type: ignore[call-overload]


def test_a_wrong_second_output_is_no_parity() -> None:
    live = Several().eval()

    def other(images: Tensor) -> Found:
        right = live(images)
        return Found(right.out, [right.levels[0] + 1, right.levels[1]])

    check_parity(live, live, [3, 8, 8], "same")
    with pytest.raises(ExportError, match="must give the live model's outputs"):
        check_parity(live, other, [3, 8, 8], "other")
