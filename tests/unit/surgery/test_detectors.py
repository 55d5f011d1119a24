"""Detectors are cut along all three axes, and a cut says what the masked detector says."""

from __future__ import annotations

import pytest
import torch

from triaxis.models.detector import Detector
from triaxis.models.zoos import build
from triaxis.surgery.proof import Proof
from triaxis.surgery.shared import SharedWeights
from triaxis.surgery.surgeon import Surgeon

CASES = {
    "retinanet": ("detection:retinanet", {"backbone": "resnet18", "channels": 32, "last_level": 7}, 64),
    "fcos": ("detection:fcos", {"backbone": "resnet18", "channels": 64, "last_level": 5, "num_convs": 2}, 64),
    "ssdlite": ("detection:ssdlite", {"width_mult": 0.5, "side_px": 128}, 128),
}


@pytest.fixture(scope="module", params=CASES)
def surgeon(request) -> Surgeon:
    name, args, side_px = CASES[request.param]
    torch.manual_seed(0)
    return Surgeon.examine(build(name, args, 4).eval(), side_px=side_px, round_to=4)


def test_all_three_axes_are_open(surgeon: Surgeon) -> None:
    assert surgeon.anatomy.closed == {}
    assert len(surgeon.anatomy.groups) > 8 and len(surgeon.sides_px()) > 3 and len(surgeon.removable(surgeon.identity())) > 1


def test_a_cut_along_all_axes_is_the_masked_detector(surgeon: Surgeon) -> None:
    side = surgeon.sides_px()[-1]
    removed = surgeon.removable(surgeon.identity())[:1]
    for width, blocks in ((0.5, ()), (0.5, removed), (0.3, removed)):
        plan = surgeon.plan(width=width, removed_blocks=blocks, side_px=side, importance="random")
        assert plan.channels
        assert Proof(surgeon, float("inf")).problem(plan) == ""


def test_pyramid_and_heads_are_cut_in_step_and_keep_their_outputs(surgeon: Surgeon) -> None:
    side = surgeon.anatomy.base_side_px
    cut = surgeon.cut(surgeon.plan(width=0.5))
    before, after = (model(torch.zeros(1, 3, side, side)) for model in (surgeon.base, cut))
    assert {name: part.shape for name, part in before.items()} == {name: part.shape for name, part in after.items()}
    names = [group.name for group in surgeon.anatomy.groups]
    assert any("head" in name for name in names) or any("extra" in name for name in names)


def test_the_cut_detector_takes_pictures_of_any_size_as_torchvisions_does(surgeon: Surgeon) -> None:
    side = surgeon.sides_px()[1]
    cut = surgeon.cut(surgeon.plan(width=0.5, side_px=side))
    assert isinstance(cut, Detector)
    assert cut.detector.transform.fixed_size == (side, side)
    found = cut.detector.eval()([torch.rand(3, 50, 90), torch.rand(3, 120, 70)])
    assert len(found) == 2 and set(found[0]) == {"boxes", "labels", "scores"}
    assert all(bool((one["boxes"][:, 2] <= width).all()) for one, width in zip(found, (90, 70), strict=True))


def test_a_cut_of_shared_weights_learns_from_its_own_loss(surgeon: Surgeon) -> None:
    shared = SharedWeights(surgeon, torch.device("cpu"))
    plan = surgeon.plan(width=0.5, side_px=surgeon.sides_px()[-1])
    targets = torch.tensor([[[0.1, 0.1, 0.6, 0.7, 1.0]], [[0.3, 0.2, 0.9, 0.9, 2.0]]])
    output = shared.cut(plan)(torch.randn(2, 3, plan.side_px, plan.side_px), targets)
    assert isinstance(output, dict) and set(output) == {"loss"}
    output["loss"].mean().backward()
    assert any(bool(parameter.grad.any()) for parameter in shared.model.parameters() if parameter.grad is not None)
