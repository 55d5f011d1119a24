"""What an earlier version handed over still loads, and gives the logits that it gave. One of each version stays here for good."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import triaxis

HERE = Path(__file__).parent
MODELS = sorted((HERE / "models").iterdir())


@pytest.fixture(params=MODELS, ids=lambda path: path.name)
def kept(request: pytest.FixtureRequest) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A compressed folder, images, and the logits that its version gave for them."""
    expected = load_file(request.param / "expected.safetensors")
    return request.param, expected["images"], expected["logits"]


def test_weights_and_plan_give_the_same_logits(kept: tuple[Path, torch.Tensor, torch.Tensor]) -> None:
    place, images, logits = kept
    with torch.inference_mode():
        torch.testing.assert_close(triaxis.load(place)(images), logits, rtol=1e-4, atol=1e-4)


def test_the_exported_program_gives_the_same_logits(kept: tuple[Path, torch.Tensor, torch.Tensor]) -> None:
    place, images, logits = kept
    with torch.inference_mode():
        torch.testing.assert_close(torch.export.load(place / "model.pt2").module()(images), logits, rtol=1e-4, atol=1e-4)


def test_it_names_its_classes(kept: tuple[Path, torch.Tensor, torch.Tensor]) -> None:
    from triaxis.deliver.plan_file import read_description

    assert read_description(kept[0])["class_names"] == list("0123456789")


def test_each_kept_run_has_its_model() -> None:
    assert [path.name for path in MODELS] == sorted(path.name for path in (HERE / "runs").iterdir())
