"""An effort that cannot be kept is said aloud."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from triaxis.config import config_from_plain
from triaxis.stages.effort import finetune_epochs, record_effort
from triaxis.store.memory import MemoryStore

IMAGES, MACS = range(1280), 1000.0
EPOCH = len(IMAGES) * MACS


def after_collecting(effort: float, epochs: float) -> tuple[Any, Any]:
    """A run whose base model took 10 epochs, and whose collection took `epochs` of the base model's."""
    store = MemoryStore()
    store.put_record("base", {"train_macs": 10 * EPOCH, "macs": MACS})
    store.put_record("elastic", {"train_macs": epochs * EPOCH})
    run = SimpleNamespace(config=config_from_plain({"effort": effort}), store=store)
    return run, SimpleNamespace(splits=SimpleNamespace(train=IMAGES))


def test_the_fine_tune_gets_what_collecting_left(caplog: pytest.LogCaptureFixture) -> None:
    run, data = after_collecting(effort=0.5, epochs=1)
    epochs = finetune_epochs(run, data, MACS / 4)
    assert epochs == 16
    record_effort(run, data, epochs * EPOCH / 4)
    assert run.store.record("effort")["total"] == pytest.approx(0.5)
    assert not caplog.records


def test_an_effort_that_collecting_has_used_up_is_said_to_be_exceeded(caplog: pytest.LogCaptureFixture) -> None:
    run, data = after_collecting(effort=0.1, epochs=4)
    epochs = finetune_epochs(run, data, MACS / 4)
    assert epochs == 1
    record_effort(run, data, epochs * EPOCH / 4)
    assert "more than the 0.10 asked for: collecting took 0.40" in caplog.text
