"""Plans and cuts: the identity is exact, a cut equals the masked model, chains nest, wrong plans are refused."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor, nn

from triaxis.errors import ConfigError, PlanError, UnsupportedModelError
from triaxis.models import cifar
from triaxis.surgery.criteria import BOX
from triaxis.surgery.criteria.control import First
from triaxis.surgery.proof import disagreement, shaken
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import Anatomy, ChannelCut, PrunePlan

EXACT = 1e-5


@pytest.fixture(params=["resnet_surgeon", "densenet_surgeon"])
def surgeon(request: pytest.FixtureRequest) -> Surgeon:
    return request.getfixturevalue(request.param)


def images(side_px: int = 16) -> Tensor:
    return torch.randn(2, 3, side_px, side_px, generator=torch.Generator().manual_seed(3))


def shallowest(surgeon: Surgeon) -> PrunePlan:
    plan = surgeon.identity()
    while choice := surgeon.removable(plan):
        plan = surgeon.plan(removed_blocks=(*plan.removed_blocks, choice[0]))
    return plan


def test_the_identity_is_exact_and_shares_no_memory(surgeon: Surgeon) -> None:
    model = surgeon.cut(surgeon.identity())
    with torch.no_grad():
        assert torch.equal(model(images()), surgeon.base(images()))
        next(model.parameters()).zero_()
        assert not torch.equal(model(images()), surgeon.base(images()))


@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.25])
@pytest.mark.parametrize("depth", ["all", "one less", "least"])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_a_cut_model_equals_the_masked_one(surgeon: Surgeon, width: float, depth: str, scope) -> None:
    removed = {"all": (), "one less": surgeon.removable(surgeon.identity())[:1], "least": shallowest(surgeon).removed_blocks}[depth]
    plan = surgeon.plan(removed_blocks=removed, width=width, scope=scope, side_px=12)
    assert disagreement(surgeon.cut(plan), surgeon.masked(plan), images(12)) < EXACT


def test_a_removed_residual_block_equals_one_with_zero_weights(resnet_surgeon: Surgeon) -> None:
    name = resnet_surgeon.removable(resnet_surgeon.identity())[2]
    zero = {n: torch.zeros_like(p) for n, p in resnet_surgeon.base.named_parameters() if n.startswith(f"{name}.")}
    cut, zeroed = resnet_surgeon.cut(resnet_surgeon.plan(removed_blocks=(name,))), resnet_surgeon.cut(resnet_surgeon.identity(), zero)
    assert disagreement(cut, zeroed, images()) < EXACT
    assert not any(n.startswith(f"{name}.") for n in cut.state_dict())


def test_depth_never_empties_a_stage(surgeon: Surgeon) -> None:
    plan = shallowest(surgeon)
    left = [b for b in surgeon.anatomy.blocks if b.name not in plan.removed_blocks]
    assert len(left) == len({b.stage for b in surgeon.anatomy.blocks}) == 3
    assert plan.achieved.depth == pytest.approx(3 / len(surgeon.anatomy.blocks))
    first = tuple(b.name for b in surgeon.anatomy.blocks if b.stage == surgeon.anatomy.blocks[0].stage)
    with pytest.raises(PlanError, match="must stay in each stage"):
        surgeon.plan(removed_blocks=first)


def test_width_levels_fall_and_each_gives_other_channels(surgeon: Surgeon) -> None:
    levels = surgeon.width_levels()
    achieved = [surgeon.plan(width=width, importance=First()).achieved.width for width in levels]
    assert levels[0] == achieved[0] == 1.0
    assert all(a > b for a, b in pairwise(levels)) and all(a > b for a, b in pairwise(achieved))


def test_every_criterion_gives_a_working_cut(surgeon: Surgeon) -> None:
    gradients = {name: torch.ones_like(tensor) for name, tensor in surgeon.base.state_dict().items()}
    for criterion in BOX:
        plan = surgeon.plan(width=0.5, importance=criterion, gradients=gradients)
        assert plan.channels and disagreement(surgeon.cut(plan), surgeon.masked(plan), images()) < EXACT
    with pytest.raises(ConfigError, match="must name a criterion"):
        surgeon.plan(width=0.5, importance="size")


def test_l2_keeps_the_large_channels(resnet_surgeon: Surgeon) -> None:
    state = {k: v.clone() for k, v in resnet_surgeon.base.state_dict().items()}
    state["stages.0.0.conv1.weight"][[1, 4, 9]] = 0
    state["stages.0.0.conv2.weight"][:, [1, 4, 9]] = 0
    plan = resnet_surgeon.plan(width=0.5, state=state)
    kept = next(c.kept for c in plan.channels if c.group == "stages.0.0.conv1")
    assert not {1, 4, 9} & set(kept)


def test_a_chain_nests_and_starts_from_its_parents_weights(surgeon: Surgeon) -> None:
    name = surgeon.removable(surgeon.identity())[0]
    parent = surgeon.plan(removed_blocks=(name,), width=0.75)
    model = surgeon.cut(parent)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    state = surgeon.expand(parent, model.state_dict())
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in surgeon.base.state_dict().items()}
    again = surgeon.cut(parent, state)
    assert torch.equal(again(images()), model.eval()(images()))
    child = surgeon.plan(removed_blocks=parent.removed_blocks, width=0.5, state=state, parent=parent)
    wider = {c.group: set(c.kept) for c in parent.channels}
    assert all(set(c.kept) <= wider[c.group] for c in child.channels if c.group in wider)
    assert disagreement(surgeon.cut(child, state), surgeon.masked(child, state), images()) < EXACT


def test_weights_of_another_plan_are_refused(resnet_surgeon: Surgeon) -> None:
    half = resnet_surgeon.plan(width=0.5)
    with pytest.raises(PlanError, match="must have shape"):
        resnet_surgeon.expand(resnet_surgeon.identity(), resnet_surgeon.cut(half).state_dict())


def test_wrong_plans_are_refused(resnet_surgeon: Surgeon) -> None:
    with pytest.raises(PlanError, match="removed block must be one of"):
        resnet_surgeon.plan(removed_blocks=("stages.1.0",))
    with pytest.raises(PlanError, match="side must be one"):
        resnet_surgeon.plan(side_px=99)
    with pytest.raises(PlanError, match="keep ratio must be in"):
        resnet_surgeon.plan(width=0)
    foreign = ChannelCut(group="features.7", num_channels=16, kept=(0, 1))
    with pytest.raises(PlanError, match=r"features\.7"):
        resnet_surgeon.cut(dataclasses.replace(resnet_surgeon.identity(), channels=(foreign,)))


def test_a_cut_trains_and_keeps_frozen_parameters_frozen() -> None:
    model = cifar.resnet(8)
    model.stages[0].requires_grad_(False)
    surgeon = Surgeon.examine(model, side_px=16)
    cut = surgeon.cut(surgeon.plan(width=0.5)).train()
    assert {n for n, p in cut.named_parameters() if not p.requires_grad} == {n for n, p in model.named_parameters() if not p.requires_grad}
    cut(images()).sum().backward()
    assert all(p.grad is not None for p in cut.parameters() if p.requires_grad)


def test_the_users_model_is_not_touched() -> None:
    model = cifar.resnet(8).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    surgeon = Surgeon.examine(model, side_px=16)
    surgeon.cut(surgeon.plan(width=0.5))
    assert model.training and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_no_activation_is_kept(surgeon: Surgeon) -> None:
    assert all(t.is_meta for call in surgeon.tracer.calls for t in (*call.inputs, *call.outputs))


def test_the_anatomy_survives_json(surgeon: Surgeon) -> None:
    assert Anatomy.from_json(surgeon.anatomy.to_json()) == surgeon.anatomy


class FixedSlice(nn.Module):
    """Cuts its channels at a number written into the code, which no surgery can change."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.free, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(12, 16, 3), nn.Conv2d(16, 16, 1), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.free(self.b(self.a(x)[:, :12].relu())).mean((2, 3)))


def test_what_cannot_be_cut_right_stays_whole_and_is_named() -> None:
    surgeon = Surgeon.examine(FixedSlice(), side_px=12)
    assert {g.name: g.num_channels for g in surgeon.anatomy.groups} == {"a#12": 4, "b": 16, "free": 16}
    assert "fails after the cut" in surgeon.anatomy.whole["a"] or "differs" in surgeon.anatomy.whole["a"]
    plan = surgeon.plan(width=0.5)
    state = shaken(surgeon.base)
    assert disagreement(surgeon.cut(plan, state), surgeon.masked(plan, state), images(12)) < EXACT


class Halved(nn.Module):
    """Keeps the width of a part as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.a, self.b, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(8, 8, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.split(self.a(x), self.width, 1)
        return self.head(torch.cat([self.b(first).mean((2, 3)), second.mean((2, 3))], 1))


def test_a_width_kept_as_an_attribute_follows_the_cut() -> None:
    surgeon = Surgeon.examine(Halved(), side_px=12)
    cut = surgeon.cut(surgeon.plan(width=0.5))
    assert cut.width == 4 and cut.a.out_channels == 8 and "a" not in surgeon.anatomy.whole


def test_closed_axes_say_why() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 100, 2))
    anatomy = Surgeon.examine(flat, side_px=12).anatomy
    assert anatomy.open_axes == ("width",)
    assert "3:" in anatomy.closed["resolution"] and "shapes cannot be multiplied" in anatomy.closed["resolution"]
    assert "No block can go" in anatomy.closed["depth"]
    with pytest.raises(UnsupportedModelError, match="must run on images"):
        Surgeon.examine(flat, side_px=12, in_channels=1)


def test_metadata_stays_true() -> None:
    timm = pytest.importorskip("timm")
    surgeon = Surgeon.examine(timm.create_model("test_resnet", num_classes=4), side_px=96)
    plan = surgeon.plan(width=0.5, side_px=72)
    cut = surgeon.cut(plan)
    assert cut.num_features == cut.get_classifier().in_features < surgeon.base.num_features
    assert tuple(cut.pretrained_cfg["input_size"] if isinstance(cut.pretrained_cfg, dict) else cut.pretrained_cfg.input_size)[1:] == (
        72,
        72,
    )
    assert cut.forward_features(images(72)).shape[1] == cut.num_features
    features = cut.forward_intermediates(images(72), intermediates_only=True)
    assert [f.shape[1] for f in features] == [row["num_chs"] for row in cut.feature_info]


def test_torchvision_dense_blocks_lose_layers_and_channels() -> None:
    torch.manual_seed(0)
    model = torchvision.models.DenseNet(growth_rate=8, block_config=(3, 3), num_init_features=16, num_classes=4)
    model.load_state_dict(shaken(model), strict=False)
    surgeon = Surgeon.examine(model, side_px=32)
    plan = surgeon.plan(removed_blocks=("features.denseblock1.denselayer2",), width=0.5)
    cut = surgeon.cut(plan)
    assert disagreement(cut, surgeon.masked(plan), images(32)) < EXACT
    assert "denselayer2" not in cut.features.denseblock1
