"""The interval that `verify` puts on the accuracy a run asks for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from triaxis.config import config_from_plain
from triaxis.data.images import Preprocess, ResidentImages
from triaxis.maths.interval import balanced, wilson
from triaxis.stages import verify
from triaxis.stages.context import Trainer
from triaxis.tasks import make_task
from triaxis.training.mode import Mode


@pytest.mark.parametrize(
    ("target", "accuracy", "expected"),
    [("accuracy", 0.9, wilson(0.9, 100)), ("balanced_accuracy", 0.5, balanced([90, 0], [90, 10]))],
)
def test_each_accuracy_has_its_own_interval(tmp_path: Path, target: str, accuracy: float, expected: tuple[float, float]) -> None:
    """A network that always answers with the class of 90 of 100 images."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    test = ResidentImages(torch.zeros(100, 3, 2, 2, dtype=torch.uint8), torch.tensor([0] * 90 + [1] * 10), 2, Preprocess())
    config = config_from_plain({"fit": {"target": target}})
    base = SimpleNamespace(shape_at=lambda side: (3, side, side))
    trainer = Trainer(device=torch.device("cpu"), mode=Mode(), folder=tmp_path, task=make_task(config.task, target=config.fit.target))
    (tmp_path / "model").touch()
    tested = trainer.evaluate(model, test, 2)
    found = verify._measured(base, model, 2, tested, (0.9, None), tmp_path / "model", {})  # type: ignore[arg-type]
    assert (found.test_accuracy, found.test_interval) == (pytest.approx(accuracy), expected)
