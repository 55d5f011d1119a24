"""INT8: the file keeps the accuracy, and a layer that costs it stays in fp32 and is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from triaxis.deliver.int8 import _Search, write_int8
from triaxis.metrics.runtimes.onnx import run_onnx

pytest.importorskip("onnxscript")

SHAPE = [3, 8, 8]
DESCRIPTION = {"preprocess": {}, "class_names": [], "input": SHAPE, "plan": {}}


class Network(nn.Module):
    """Three layers; the weights of `fragile` need more than eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fragile, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)
        with torch.no_grad():
            # A channel that is always 0 has weights so large that those of the others round to 0.
            self.fragile.weight[:, 0] = 2000.0
            self.stem.weight[0], self.stem.bias[0] = 0.0, -1.0

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.fragile(self.stem(images).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def data() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model, images = Network().eval(), torch.randn(256, *SHAPE)
    with torch.no_grad():
        model.head.bias -= model(images).mean(0)  # so that all classes occur
        return model, images, model(images).argmax(1)


def test_a_layer_that_costs_accuracy_stays_in_fp32_and_is_named(data, tmp_path: Path) -> None:
    model, images, labels = data

    def score(runner) -> float:
        return (runner(images).argmax(1) == labels).float().mean().item()

    found = write_int8(tmp_path / "model_int8.onnx", model, DESCRIPTION, [images[:64]], score, tolerance=0.05)
    assert found.kept == ("fragile",)
    assert found.score_fp32 == 1.0
    assert found.score >= 0.95
    assert score(run_onnx(found.path)) == found.score, "the file that is delivered is the one that was scored"
    bare = write_int8(tmp_path / "bare.onnx", model, DESCRIPTION, [images[:64]], score, tolerance=1.0)
    assert bare.kept == () and bare.score < 0.95, "the layer must cost accuracy, or this test shows nothing"


def test_the_file_says_what_its_input_must_be(data, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    found = write_int8(tmp_path / "model_int8.onnx", data[0], DESCRIPTION, [data[1][:8]], lambda runner: 1.0)
    assert {entry.key: entry.value for entry in onnx.load(found.path).metadata_props}["input"] == "[3, 8, 8]"


class Fake:
    """A quantiser whose file names the nodes that stay in fp32."""

    nodes = tuple("abcdefgh")

    def write(self, path: Path, *, keep: tuple[str, ...]) -> tuple[str, ...]:
        return keep


@pytest.mark.parametrize(("culprits", "kept"), [("", ""), ("a", "a"), ("c", "abc"), ("ce", "abcde"), ("g", "abcdefg")])
def test_as_few_layers_as_suffice_are_kept(monkeypatch: pytest.MonkeyPatch, culprits: str, kept: str) -> None:
    monkeypatch.setattr("triaxis.deliver.int8.run_onnx", lambda keep: keep)
    search = _Search(Fake(), Path(), lambda keep: float(set(culprits) <= set(keep)), 1.0)  # type: ignore[arg-type]
    assert search.fewest(lambda: Fake.nodes) == tuple(kept)


def test_where_no_layers_suffice_the_best_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triaxis.deliver.int8.run_onnx", lambda keep: keep)
    search = _Search(Fake(), Path(), lambda keep: 0.5 + 0.1 * ("b" in keep), 1.0)  # type: ignore[arg-type]
    assert search.fewest(lambda: Fake.nodes) == ("a", "b")
