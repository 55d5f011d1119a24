"""Elastic training: with the uncut network as its only cut it is plain fine-tuning; cut off, it goes on as if undisturbed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from triaxis.data.images import Preprocess, ResidentImages
from triaxis.models import cifar
from triaxis.surgery.shared import SharedWeights
from triaxis.surgery.surgeon import Surgeon
from triaxis.training.elastic import train_elastic
from triaxis.training.loop import finetune
from triaxis.training.mode import Mode
from triaxis.training.teacher import Teacher
from triaxis.values import PrunePlan, Recipe

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=3, batch_size=16, crop_px=1, peak_lr=0.05, distill=0.5, average_last=0.3)
VIEWS = 2


@pytest.fixture
def images() -> ResidentImages:
    """Two classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    pixels = torch.randint(0, 120, (64, 3, 8, 8), generator=generator) + 100 * labels.view(-1, 1, 1, 1)
    return ResidentImages(pixels.to(torch.uint8), labels, 2, Preprocess())


@pytest.fixture(scope="module")
def surgeon() -> Surgeon:
    torch.manual_seed(0)
    return Surgeon.examine(cifar.resnet(8, num_classes=2, width=0.5), side_px=8, min_resolution=0.5, round_to=2)


@pytest.fixture
def teacher(surgeon: Surgeon) -> Teacher:
    return Teacher(surgeon.cut(surgeon.identity()), 8, CPU, Mode())


def train(surgeon: Surgeon, images: ResidentImages, teacher: Teacher, plans: Sequence[PrunePlan], **more) -> dict[str, torch.Tensor]:
    shared = SharedWeights(surgeon, CPU)

    def plan_at(step: int) -> PrunePlan:
        return plans[step % len(plans)]

    settings = {"views": VIEWS, **more}
    train_elastic(shared, images, RECIPE, plan_at, seed=7, device=CPU, mode=Mode(), teacher=teacher, **settings)
    return {name: tensor.clone() for name, tensor in shared.model.named_parameters()}


def test_with_the_uncut_network_alone_it_is_fine_tuning(surgeon: Surgeon, images: ResidentImages, teacher: Teacher) -> None:
    found = train(surgeon, images, teacher, [surgeon.identity()], views=0)
    model = surgeon.cut(surgeon.identity())
    finetune(model, images, RECIPE, side_px=8, seed=7, device=CPU, mode=Mode(), teacher=teacher)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter, rtol=1e-4, atol=1e-6)


def test_it_changes_what_its_cuts_keep_and_nothing_else(surgeon: Surgeon, images: ResidentImages, teacher: Teacher) -> None:
    plan = surgeon.plan(width=0.5, side_px=6)
    found, base = train(surgeon, images, teacher, [plan]), dict(surgeon.base.named_parameters())
    kept = surgeon.kept(plan)["conv1.weight"][0]
    gone = torch.tensor([n for n in range(len(base["conv1.weight"])) if n not in kept.tolist()])
    assert not torch.allclose(found["conv1.weight"][kept], base["conv1.weight"][kept])
    # Weight decay shrinks what no cut trains; nothing turns it.
    shrunk, before = found["conv1.weight"][gone], base["conv1.weight"][gone]
    assert torch.nn.functional.cosine_similarity(shrunk.flatten(), before.flatten(), dim=0) > 0.9999


def test_a_training_cut_off_between_epochs_ends_as_if_undisturbed(
    surgeon: Surgeon, images: ResidentImages, teacher: Teacher, tmp_path
) -> None:
    plans = [surgeon.identity(), surgeon.plan(width=0.5, side_px=6)]
    whole = train(surgeon, images, teacher, plans)

    class Killed(BaseException):
        pass

    def kill(step: int, steps: int, loss: torch.Tensor) -> None:
        if step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(surgeon, images, teacher, plans, on_step=kill, resume_path=tmp_path / "elastic.resume")
    again = train(surgeon, images, teacher, plans, resume_path=tmp_path / "elastic.resume")
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_repeated_pictures_cost_the_teacher_one_look_a_view(surgeon: Surgeon, images: ResidentImages, teacher: Teacher) -> None:
    train(surgeon, images, teacher, [surgeon.identity()])
    assert teacher.num_seen == VIEWS * len(images)
