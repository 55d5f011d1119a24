"""What the user protects stays whole; what alone may be pruned is all that goes."""

from __future__ import annotations

import pytest
import torch

from triaxis.errors import ConfigError
from triaxis.models import cifar
from triaxis.surgery.surgeon import Surgeon


def test_a_protected_module_keeps_every_tensor_and_block() -> None:
    surgeon = Surgeon.examine(cifar.resnet(8), side_px=16, protect=["stages.1"])
    removable = {b.name for b in surgeon.anatomy.blocks if b.is_removable}
    cut = surgeon.cut(surgeon.plan(width=0.25)).state_dict()
    whole = {n: t.shape for n, t in surgeon.base.state_dict().items() if n.startswith("stages.1.")}
    assert whole and all(cut[n].shape == shape for n, shape in whole.items())
    assert not any(name.startswith("stages.1") for name in removable)
    assert "modules to protect" in surgeon.anatomy.whole["stages.1.0.conv1"]
    assert any(cut[n].shape != t.shape for n, t in surgeon.base.state_dict().items())


def test_only_the_modules_named_are_pruned() -> None:
    surgeon = Surgeon.examine(cifar.resnet(14), side_px=16, prune_only=["stages.2.*"])
    assert {g.name for g in surgeon.anatomy.groups} == {"stages.2.0.conv1", "stages.2.0.conv2", "stages.2.1.conv1"}
    assert [b.name for b in surgeon.anatomy.blocks if b.is_removable] == ["stages.2.1"]
    image = torch.zeros(1, 3, 16, 16)
    assert surgeon.cut(surgeon.plan(width=0.5))(image).shape == surgeon.base(image).shape


def test_a_block_that_must_stay_says_why_and_closes_the_axis() -> None:
    held = Surgeon.examine(cifar.resnet(8), side_px=16, protect="stages.*.conv1").anatomy
    reasons = {b.name: b.why for b in held.blocks}
    assert reasons["stages.0.0"] == "stages.0.0.conv1 in it is in the list of modules to protect"
    assert reasons["stages.1.0"] == "its output has another shape than its input"
    assert held.closed["depth"] == "No block can go: stages.0.0 stays: stages.0.0.conv1 in it is in the list of modules to protect."
    alone = Surgeon.examine(cifar.resnet(14), side_px=16, prune_only=["stages.*.conv1", "stages.*.conv2"]).anatomy
    assert alone.closed["depth"] == "No block can go: stages.0.0 stays: it is not in the list of modules to prune."
    assert {b.why for b in alone.blocks if b.name.endswith(".1")} == {"it is not in the list of modules to prune"}


@pytest.mark.parametrize("given", [[3], [""], ["layer1", None]])
def test_what_is_no_name_is_refused(given: list[object]) -> None:
    with pytest.raises(ConfigError, match="protect must be a list of paths of modules"):
        Surgeon.examine(cifar.resnet(8), side_px=16, protect=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["protect", "prune_only"])
def test_a_name_that_matches_nothing_is_refused_with_the_nearest(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} must name modules .*'stage\.1'.*nearest are .*stages\.1"):
        Surgeon.examine(cifar.resnet(8), side_px=16, **{key: ["stage.1"]})
