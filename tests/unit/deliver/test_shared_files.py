"""Files that are handed over say nothing about the machine that wrote them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

import triaxis
from triaxis.deliver.pt2 import write_pt2
from triaxis.metrics.runtimes.onnx import run_onnx, write_onnx
from triaxis.models.cifar import resnet

PLACES = {str(Path(module.__file__ or "").parents[1]) for module in (triaxis, torch)}


def test_a_pt2_names_no_directory_of_this_machine(tmp_path: Path) -> None:
    network = resnet(8, width=0.25).eval()
    write_pt2(tmp_path / "model.pt2", network, {"input": [3, 8, 8]})
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"archive"}, "not the name of a temporary file"
        texts = [archive.read(name).decode("latin-1") for name in archive.namelist()]
    assert not [place for place in PLACES for text in texts if place in text]


def test_an_onnx_file_names_no_directory_of_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network = resnet(8, width=0.25).eval()
    written = write_onnx(tmp_path / "model.onnx", network, (3, 8, 8), {"class_names": ["cat"]})
    text = written.read_bytes().decode("latin-1")
    assert not [place for place in PLACES if place in text]
    assert "class_names" in text
    images = torch.randn(3, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(run_onnx(written)(images), network(images), rtol=1e-4, atol=1e-4)
