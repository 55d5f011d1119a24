"""Which block goes next, and that no loss of the same weights is measured twice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from triaxis.data.images import Preprocess, ResidentImages
from triaxis.models import cifar
from triaxis.stages.block_choice import Losses, choose_blocks
from triaxis.surgery.surgeon import Surgeon
from triaxis.training.evaluate import loss_with_batch_statistics

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def surgeon() -> Surgeon:
    torch.manual_seed(0)
    return Surgeon.examine(cifar.resnet(14, width=0.25), side_px=8)


@pytest.fixture(scope="module")
def images() -> ResidentImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (32, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ResidentImages(pixels, torch.arange(32) % 10, 10, Preprocess())


def choose(surgeon: Surgeon, images: ResidentImages, count: int, measured: list[int], known: Losses | None = None) -> tuple[str, ...]:
    def loss(model: nn.Module, side_px: int) -> float:
        measured.append(side_px)
        return loss_with_batch_statistics(model, images, side_px, CPU, num_images=32)

    return choose_blocks(surgeon, surgeon.identity(), surgeon.base.state_dict(), count, loss, known=known)


def test_what_is_known_is_not_measured_again_and_the_choice_is_the_same(surgeon: Surgeon, images: ResidentImages) -> None:
    alone = [choose(surgeon, images, count, []) for count in (3, 1, 2)]
    known: Losses = {}
    measured: list[int] = []
    first = choose(surgeon, images, 3, measured, known)
    num_first = len(measured)
    assert num_first == len(known) > 0
    assert [first, choose(surgeon, images, 1, measured, known), choose(surgeon, images, 2, measured, known)] == alone
    assert len(measured) == num_first
