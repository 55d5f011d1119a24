"""The channels that a trial and the final cut keep: production goes the way that the criteria are tested on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triaxis.config import config_from_plain
from triaxis.data.images import Preprocess, ResidentImages
from triaxis.models.cifar import resnet
from triaxis.stages.context import Trainer
from triaxis.stages.trial import narrowed
from triaxis.surgery.criteria import Evidence, criterion_of, unit_scores
from triaxis.surgery.proof import shaken
from triaxis.surgery.surgeon import Surgeon
from triaxis.training.mode import Mode
from triaxis.values import PrunePlan

SIDE_PX = 16


@pytest.fixture(scope="module")
def surgeon() -> Surgeon:
    torch.manual_seed(0)
    model = resnet(8)
    model.load_state_dict(shaken(model), strict=False)
    return Surgeon.examine(model, side_px=SIDE_PX, round_to=4)


@pytest.fixture(scope="module")
def images() -> ResidentImages:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (24, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8, generator=generator)
    return ResidentImages(pixels, torch.arange(24) % 10, 10, Preprocess())


@pytest.fixture(scope="module")
def parent(surgeon: Surgeon) -> tuple[PrunePlan, dict[str, Tensor]]:
    """A trial that has lost channels, with weights a tenth of the base model's."""
    plan = surgeon.plan(width=0.75, importance="random", seed=5)
    weights = {n: t * 0.1 if t.ndim > 1 else t for n, t in surgeon.cut(plan).state_dict().items()}
    return plan, surgeon.expand(plan, weights)


def contexts(surgeon: Surgeon, images: ResidentImages, importance: str, seed: int = 0) -> Any:
    config = config_from_plain({"width": {"importance": importance, "round_to": 4}, "seed": seed, "collect": {"block_images": 24}})
    """Return what `narrowed` looks at: a run, its data, its base model and its trainer."""
    run, data = SimpleNamespace(config=config), SimpleNamespace(splits=SimpleNamespace(train=images))
    return run, data, SimpleNamespace(surgeon=surgeon), Trainer(device=torch.device("cpu"), mode=Mode(), folder=Path())


def masked_gradients(surgeon: Surgeon, plan: PrunePlan, state: dict[str, Tensor], images: ResidentImages) -> dict[str, Tensor]:
    """Return the gradients on a model of the base's shape in which what is gone is zero: another way to the same numbers."""
    model = surgeon.masked(plan, state).eval()
    for batch in images.in_order(SIDE_PX):
        F.cross_entropy(model(batch.images), batch.labels).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_taylor_ranks_by_the_loss_of_the_network_that_is_cut(
    surgeon: Surgeon, images: ResidentImages, parent: tuple[PrunePlan, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, state = parent
    asked: dict[str, Any] = {}

    def planned(**how: Any) -> PrunePlan:
        asked.update(how)
        return Surgeon.plan(surgeon, **how)

    monkeypatch.setattr(surgeon, "plan", planned)
    child = narrowed(*contexts(surgeon, images, "taylor"), (), 0.5, SIDE_PX, plan, state)
    monkeypatch.undo()
    gradients = masked_gradients(surgeon, plan, state, images)
    masked = {name: tensor.detach() for name, tensor in surgeon.masked(plan, state).state_dict().items()}
    for group in surgeon.layout(()).groups:
        found = unit_scores(group, criterion_of("taylor"), Evidence(asked["state"], asked["gradients"]))
        expected = unit_scores(group, criterion_of("taylor"), Evidence(masked, gradients))
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)
    before = {cut.group: set(cut.kept) for cut in plan.channels}
    assert child.channels and all(set(cut.kept) <= before[cut.group] for cut in child.channels)


def test_chance_is_seeded_by_the_run_and_nests(
    surgeon: Surgeon, images: ResidentImages, parent: tuple[PrunePlan, dict[str, Tensor]]
) -> None:
    _, state = parent
    whole = surgeon.identity()
    one, same, other = (narrowed(*contexts(surgeon, images, "random", seed), (), 0.5, SIDE_PX, whole, state) for seed in (1, 1, 2))
    assert one == same != other


def test_a_criterion_of_the_users_own_decides(
    surgeon: Surgeon, images: ResidentImages, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "last_ones.py").write_text(
        "import torch\n\n\nclass Last:\n    needs_gradients = False\n\n    def scores(self, group, evidence):\n"
        "        return torch.arange(float(group.num_units))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plan = narrowed(*contexts(surgeon, images, "last_ones:Last"), (), 0.5, SIDE_PX, surgeon.identity(), {})
    assert plan.channels and all(cut.kept == tuple(range(cut.num_channels // 2, cut.num_channels)) for cut in plan.channels)
