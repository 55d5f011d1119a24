"""Thin 1x1 convolutions with a stride: torch's maths library writes beyond its memory unless they are guarded."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from triaxis.process.convolutions import guard, guarded, is_at_risk, release

# In a process of its own: without the guard it dies on processors of the x86 kind.
TRAIN = """
import numpy as np, torch
from torch import nn
from triaxis.data.images import Preprocess, ResidentImages
from triaxis.training.loop import finetune
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe

torch.set_num_threads(1)
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
pictures = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 3), np.uint8)
images = ResidentImages(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), torch.arange(32) % 2, 2, Preprocess())
finetune(network, images, Recipe(epochs=3, batch_size=32), side_px=48, seed=0, device=torch.device("cpu"), mode=PLAIN)
assert not any(module._forward_pre_hooks for module in network.modules())
print("trained")
"""


def test_a_thin_shortcut_is_trained() -> None:
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "trained", (done.returncode, done.stderr[-500:])


@pytest.mark.parametrize(
    ("convolution", "expected"),
    [
        (nn.Conv2d(8, 16, 1, stride=2), True),
        (nn.Conv2d(32, 32, 1, stride=2, groups=4), True),
        (nn.Conv2d(16, 16, 1, stride=2), False),
        (nn.Conv2d(8, 16, 1), False),
        (nn.Conv2d(8, 16, 3, stride=2), False),
        (nn.Linear(8, 16), False),
    ],
)
def test_who_is_at_risk(convolution: nn.Module, expected: bool) -> None:
    assert is_at_risk(convolution) == expected


def test_guarded_convolutions_see_contiguous_pictures_and_compute_the_same() -> None:
    network = nn.Sequential(nn.Conv2d(8, 4, 1, stride=2)).to(memory_format=torch.channels_last)
    images = torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last)
    seen: list[bool] = []
    with guarded(network):
        handle = network[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].is_contiguous()))
        found = network(images)
    network(images)
    handle.remove()
    assert seen == [True, False]
    assert torch.allclose(found, network(images), atol=1e-6)


def test_released_guards_leave_nothing_behind() -> None:
    network = nn.Sequential(nn.Conv2d(8, 4, 1, stride=2))
    release(guard(network))
    assert not network[0]._forward_pre_hooks
