"""Shared weights: a cut of them answers as a real cut does, and its gradients reach what it keeps and nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest
import timm
import torch

from triaxis.errors import UnsupportedModelError
from triaxis.surgery.criteria import criterion_of
from triaxis.surgery.shared import NestedCuts, SharedWeights, channel_order
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import PrunePlan

CPU = torch.device("cpu")


@pytest.fixture(params=["resnet", "densenet"])
def surgeon(request: pytest.FixtureRequest) -> Surgeon:
    return request.getfixturevalue(f"{request.param}_surgeon")


def plan_of(surgeon: Surgeon, width: float) -> PrunePlan:
    order = channel_order(surgeon, criterion_of("l2"))
    cuts = NestedCuts(surgeon, surgeon.removable(surgeon.identity()), order)
    return cuts.plan(surgeon.identity().num_blocks - 1, width, 8)


def test_a_shared_cut_answers_as_the_real_cut(surgeon: Surgeon) -> None:
    shared, plan = SharedWeights(surgeon, CPU), plan_of(surgeon, 0.5)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    real = surgeon.cut(plan, shared.state()).train()
    torch.testing.assert_close(shared.cut(plan)(images), real(images), rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_real_cut_in_their_places_and_zero_elsewhere(surgeon: Surgeon) -> None:
    shared, plan = SharedWeights(surgeon, CPU), plan_of(surgeon, 0.5)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    shared.cut(plan)(images).square().mean().backward()
    real = surgeon.cut(plan, shared.state()).train()
    real(images).square().mean().backward()
    wanted, full = dict(real.named_parameters()), dict(shared.model.named_parameters())
    for name, parameter in wanted.items():
        gradient = full[name].grad
        assert gradient is not None and parameter.grad is not None
        inner = gradient
        for dim, positions in surgeon.kept(plan).get(name, {}).items():
            inner = inner.index_select(dim, positions)
        torch.testing.assert_close(inner, parameter.grad, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(gradient.abs().sum(), inner.abs().sum(), rtol=1e-4, atol=1e-5)
    gone = set(full) - set(wanted)
    assert gone and all(full[name].grad is None for name in gone)


def test_sides_of_one_shape_share_one_frame(resnet_surgeon: Surgeon) -> None:
    shared = SharedWeights(resnet_surgeon, CPU)
    first, second = (shared.cut(resnet_surgeon.plan(width=0.5, side_px=side)) for side in (8, 16))
    assert first is second
    assert shared.cut(resnet_surgeon.plan(width=1.0, side_px=8)) is not first


def test_a_narrower_cut_keeps_a_part_of_a_wider_one(surgeon: Surgeon) -> None:
    plans = [plan_of(surgeon, width) for width in (0.75, 0.5, 0.25)]
    for wide, narrow in pairwise(plans):
        kept = {cut.group: set(cut.kept) for cut in wide.channels}
        assert all(set(cut.kept) <= kept.get(cut.group, set(cut.kept)) for cut in narrow.channels)
        assert narrow.achieved.width < wide.achieved.width


def test_weights_that_depend_on_the_side_cannot_be_shared(make_shaken) -> None:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=4, depth=2, embed_dim=16, num_heads=2, num_classes=10)
    with pytest.raises(UnsupportedModelError, match=r"collect\.method: chains"):
        SharedWeights(Surgeon.examine(make_shaken(vit), side_px=16), CPU)
