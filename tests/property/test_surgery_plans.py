"""Whatever is planned, the cut agrees with the masked model and costs no more than a milder one."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triaxis.models import cifar
from triaxis.surgery.proof import disagreement, shaken
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import PrunePlan


@cache
def surgeon() -> Surgeon:
    torch.manual_seed(0)
    model = cifar.resnet(14, width=0.5)
    model.load_state_dict(shaken(model), strict=False)
    return Surgeon.examine(model, side_px=12)


def num_weights(plan: PrunePlan) -> int:
    return sum(p.numel() for p in surgeon().cut(plan).parameters())


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_cuts_agree_nest_and_shrink(data: st.DataObject) -> None:
    plan = surgeon().identity()
    for _ in range(data.draw(st.integers(0, 3), label="blocks")):
        if choice := surgeon().removable(plan):
            plan = surgeon().plan(removed_blocks=(*plan.removed_blocks, data.draw(st.sampled_from(choice))))
    wide, narrow = sorted(data.draw(st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)), label="widths"), reverse=True)
    side = data.draw(st.sampled_from(surgeon().sides_px()), label="side")
    parent = surgeon().plan(removed_blocks=plan.removed_blocks, width=wide, side_px=side)
    child = surgeon().plan(removed_blocks=plan.removed_blocks, width=narrow, side_px=side, parent=parent)
    image = torch.randn(1, 3, side, side)
    assert disagreement(surgeon().cut(child), surgeon().masked(child), image) < 1e-5
    assert num_weights(child) <= num_weights(parent) <= num_weights(plan)
    assert child.achieved.width <= parent.achieved.width
    assert PrunePlan.from_json(child.to_json()) == child
