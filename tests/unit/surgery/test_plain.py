"""What a network that is handed over must be, and what training may change of it."""

from __future__ import annotations

import logging

import pytest
import torch

from triaxis.models.cifar import resnet
from triaxis.surgery.trace.plain import trainable


def test_frozen_weights_stay_frozen() -> None:
    model = resnet(8).double()
    model.conv1.requires_grad_(False)
    trainable(model)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_network_that_is_frozen_as_a_whole_is_trained_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = trainable(resnet(8).requires_grad_(False))
    assert all(p.requires_grad for p in model.parameters())
    assert "all weights of the model are frozen" in caplog.text
