"""Small models, shaken so that a mistake shows in their output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from triaxis.models import cifar
from triaxis.surgery.proof import shaken
from triaxis.surgery.surgeon import Surgeon


def shaken_model(model: nn.Module) -> nn.Module:
    """Give a model random scales and statistics."""
    model.load_state_dict(shaken(model), strict=False)
    return model.eval()


@pytest.fixture(scope="session")
def make_shaken() -> Callable[[nn.Module], nn.Module]:
    return shaken_model


@pytest.fixture(scope="session")
def resnet_surgeon() -> Surgeon:
    torch.manual_seed(0)
    return Surgeon.examine(shaken_model(cifar.resnet(20)), side_px=16)


@pytest.fixture(scope="session")
def densenet_surgeon() -> Surgeon:
    torch.manual_seed(0)
    return Surgeon.examine(shaken_model(cifar.densenet(16, growth=8)), side_px=16)
