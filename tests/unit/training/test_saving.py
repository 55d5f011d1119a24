"""States are saved behind the training's back: what is written is the copy, the old one stays meanwhile, and an error is heard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from triaxis.data.images import Preprocess, ResidentImages
from triaxis.errors import StoreError, TrainingError
from triaxis.training import saving
from triaxis.training.loop import finetune
from triaxis.training.mode import Mode
from triaxis.training.resume import write_resume
from triaxis.training.saving import SHARE, Saving, snapshot
from triaxis.values import Recipe

CPU = torch.device("cpu")
STEPS = 4
RECIPE = Recipe(epochs=3, batch_size=16, crop_px=1, peak_lr=0.05, average_last=0.5)
LONG_S = 20.0


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def images() -> ResidentImages:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(16 * STEPS) % 2
    pixels = torch.randint(0, 120, (len(labels), 3, 8, 8), generator=generator) + 100 * labels.view(-1, 1, 1, 1)
    return ResidentImages(pixels.to(torch.uint8), labels, 2, Preprocess())


def train(model: nn.Module, path: Path, on_step: Callable[..., None] | None = None, **more: Any) -> None:
    finetune(model, images(), RECIPE, side_px=8, seed=7, device=CPU, mode=Mode(), on_step=on_step, resume_path=path, **more)


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


class Gate:
    """A disk that takes what is written only when it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.waiting = threading.Event(), threading.Event()
        monkeypatch.setattr(saving, "write_resume", self.write)

    def write(self, path: Path, state: dict[str, Any]) -> None:
        self.waiting.set()
        assert self.opened.wait(LONG_S)
        write_resume(path, state)


def test_training_goes_on_while_a_state_is_written_and_the_copy_is_of_its_step(tmp_path, monkeypatch):
    path, waited = tmp_path / "a.resume", tmp_path / "b.resume"

    class Killed(BaseException):
        pass

    def leave(step: int, *_: object) -> None:
        if step == STEPS + 3:
            raise Killed

    with pytest.raises(Killed):
        train(network(), waited, leave)
    gate, written = Gate(monkeypatch), []

    def leave_later(step: int, *_: object) -> None:
        if step == STEPS + 3:
            # The state after the first epoch is being written, three steps later still.
            written.append(gate.waiting.is_set() and not path.exists())
            gate.opened.set()
            raise Killed

    with pytest.raises(Killed):
        train(network(), path, leave_later)
    assert written == [True]
    found, wanted = (torch.load(file, weights_only=True) for file in (path, waited))
    assert found["step"] == wanted["step"] == STEPS
    assert same(found["model"], wanted["model"]) and same(found["average"], wanted["average"])
    assert all(same(found["optimizer"]["state"][n], wanted["optimizer"]["state"][n]) for n in wanted["optimizer"]["state"])


def test_a_snapshot_shares_nothing_with_what_is_trained():
    state = {"model": {"w": torch.ones(3)}, "losses": [1.0], "more": [(torch.zeros(2), "text", None)]}
    copied = snapshot(state)
    state["model"]["w"].add_(1)
    state["losses"].append(2.0)
    state["more"][0][0].add_(1)
    assert torch.equal(copied["model"]["w"], torch.ones(3)) and copied["losses"] == [1.0]
    assert torch.equal(copied["more"][0][0], torch.zeros(2)) and copied["more"][0][1:] == ("text", None)


def test_the_old_state_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "a.resume"
    write_resume(path, {"number": 1})
    gate = Gate(monkeypatch)
    with Saving(path) as saved:
        saved.save({"number": 2})
        assert gate.waiting.wait(LONG_S)
        assert torch.load(path, weights_only=True) == {"number": 1}
        gate.opened.set()
    assert torch.load(path, weights_only=True) == {"number": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["a.resume"]


def test_what_stops_a_state_from_being_written_is_raised_at_the_next_step(tmp_path, monkeypatch):
    failed, steps = threading.Event(), []

    def refuse(path: Path, state: dict[str, Any]) -> None:
        try:
            raise StoreError("the disk is full")
        finally:
            failed.set()

    monkeypatch.setattr(saving, "write_resume", refuse)

    def told(step: int, *_: object) -> None:
        steps.append(step)
        if step > STEPS:
            assert failed.wait(LONG_S)
            for thread in threading.enumerate():
                if thread.name == "triaxis-saving":
                    thread.join()

    with pytest.raises(StoreError, match="the disk is full"):
        train(network(), tmp_path / "a.resume", told)
    assert steps[-1] in (STEPS, STEPS + 1), "once it is known, no step is made"


def test_an_error_of_the_last_state_is_raised_at_the_end(tmp_path, monkeypatch):
    def refuse(path: Path, state: dict[str, Any]) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(saving, "write_resume", refuse)
    with pytest.raises(StoreError, match="the disk is full"), Saving(tmp_path / "a.resume") as saved:
        saved.save({})
    with pytest.raises(StoreError, match="the disk is full"), Saving(tmp_path / "a.resume") as saved:
        saved.save({}, wait=True)


def test_the_state_after_the_last_step_stays_for_who_has_yet_to_store_the_result(tmp_path):
    path, whole, again, steps = tmp_path / "a.resume", network(), network(), []
    train(whole, path, keep_state=True, save_s=0)
    assert torch.load(path, weights_only=True)["step"] == 3 * STEPS
    train(again, path, lambda step, *_: steps.append(step), keep_state=True)
    assert steps == [] and same(whole.state_dict(), again.state_dict()) and path.exists()
    train(network(), path)
    assert not path.exists()


def test_numbers_that_are_none_leave_no_state_to_go_on_from(tmp_path):
    path, model = tmp_path / "a.resume", network()

    def spoil(step: int, *_: object) -> None:
        if step == STEPS + 2:
            with torch.no_grad():
                model[0].weight.fill_(float("nan"))

    with pytest.raises(TrainingError, match=f"got nan at step {STEPS + 3} of"):
        train(model, path, spoil, save_s=0)
    assert list(tmp_path.iterdir()) == []
    whole, again = network(), network()
    train(whole, tmp_path / "whole.resume")
    train(again, path)
    assert same(whole.state_dict(), again.state_dict())


def test_saving_that_is_slow_beside_an_epoch_waits(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    with Saving(tmp_path / "a.resume") as saved:
        assert saved.pays(600), "the first"
        saved.save({}, wait=True)
        saved._cost_s = 2.0
        now[0] += 2.0 / SHARE - 1
        assert not saved.pays(600)
        now[0] += 1
        assert saved.pays(600)
        saved._cost_s = 60.0
        assert not saved.pays(600)
        now[0] += 600 - 2.0 / SHARE
        assert saved.pays(600), "after the time that was set in any case"


def test_nothing_is_saved_without_a_file():
    with Saving(None) as saved:
        saved.save({"a": torch.ones(1)}, wait=True)
        saved.finish()
