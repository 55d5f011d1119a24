"""Processes that decode images may die: others take their place, and the batches are the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from triaxis.data.images import Preprocess, StreamedImages
from triaxis.errors import DataError
from triaxis.training.evaluate import evaluate
from triaxis.training.loop import finetune
from triaxis.training.mode import Mode
from triaxis.values import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=2, batch_size=8, crop_px=0, peak_lr=0.05)


class Deadly:
    """Pictures whose decoder is killed at one of them, as often as a file has letters."""

    def __init__(self, lives: Path, at: int = 21) -> None:
        self.labels, self.lives, self.at = torch.arange(32) % 2, lives, at

    def __len__(self) -> int:
        return len(self.labels)

    def identity(self) -> int:
        return len(self)

    def picture(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> torch.Tensor:
        left = self.lives.read_text()
        if index == self.at and left:
            self.lives.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        picture = torch.full((3, 8, 8), 100 + 50 * (index % 2) + index, dtype=torch.uint8)
        return picture.flip(2) if flip else picture


def split(tmp_path: Path, lives: int) -> StreamedImages:
    file = tmp_path / "lives"
    file.write_text("x" * lives)
    return StreamedImages(Deadly(file), 2, Preprocess(), 8, "train", num_workers=2)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4, 2))


def trained(data: StreamedImages) -> nn.Module:
    model = network()
    finetune(model, data, RECIPE, side_px=8, seed=3, device=CPU, mode=Mode())
    return model


def test_a_training_whose_decoders_die_ends_with_the_same_weights(tmp_path, caplog):
    whole = trained(split(tmp_path, 0))
    assert caplog.text == ""
    broken = trained(split(tmp_path, 2))
    assert (tmp_path / "lives").read_text() == ""
    assert caplog.text.count("a process that decodes the train images died") == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), broken.state_dict().values(), strict=True))


def test_an_evaluation_goes_on_too(tmp_path):
    model = network()
    assert evaluate(model, split(tmp_path, 1), 8, CPU) == evaluate(model, split(tmp_path, 0), 8, CPU)


def test_decoders_that_die_again_and_again_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"decode the train images must live, but 4 died.*lower data.workers") as caught:
        trained(split(tmp_path, 99))
    assert "\n" not in str(caught.value)


def test_a_death_is_heard_where_a_batch_is_waited_for_and_not_in_the_middle_of_a_step(tmp_path):
    data, seen = split(tmp_path, 0), []
    batches = data.epoch(8, RECIPE, seed=0, epoch=0)
    seen.append(next(batches).indices)
    for worker in data_workers():
        os.kill(worker, signal.SIGKILL)
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    # torch's own handler would raise within these lines.
    for _ in range(1000):
        torch.zeros(1)
    seen += [batch.indices for batch in batches]
    assert torch.equal(torch.cat(seen), torch.cat([batch.indices for batch in split(tmp_path, 0).epoch(8, RECIPE, seed=0, epoch=0)]))


def data_workers() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid]


def test_an_error_of_the_data_passes_as_it_is(tmp_path):
    data = split(tmp_path, 0)
    data.dataset.lives = tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        list(data.epoch(8, RECIPE, seed=0, epoch=0))
