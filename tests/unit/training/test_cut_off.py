"""A training that is cut off in the middle of an epoch ends with the weights of an undisturbed one, to the last bit."""

from __future__ import annotations

import gc
import os
import random
import signal
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from triaxis.data.images import Preprocess, ResidentImages, StreamedImages
from triaxis.errors import InterruptedRunError, TrainingError
from triaxis.process.interrupt import heeding_signals
from triaxis.training import loop, saving
from triaxis.training.loop import finetune
from triaxis.training.machine import Machine
from triaxis.training.mode import Mode
from triaxis.training.teacher import Teacher
from triaxis.values import Recipe

CPU = torch.device("cpu")
EPOCHS, STEPS = 3, 6
PLAIN = {"epochs": EPOCHS, "batch_size": 16, "crop_px": 1, "peak_lr": 0.05}
RECIPES = {
    "plain": Recipe(**PLAIN),
    "averaged": Recipe(**PLAIN, average_last=0.6, optimizer="adamw"),
    "randaugment": Recipe(**PLAIN, randaugment="2,9", distill=0.5),
    "mixed": Recipe(**PLAIN, mixup=0.4, cutmix=0.5),
    "distilled": Recipe(**PLAIN, distill=0.7),
}


class Jitter(nn.Module):
    """A layer of a user's own that draws from every source of random numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand())) if self.training else x


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), Jitter()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


class Pixels:
    """Pictures that a streamed split decodes one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def identity(self) -> int:
        return len(self.images)

    def picture(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> torch.Tensor:
        picture = self.images[index].roll(int(4 * offset[0]), 1)
        return picture.flip(2) if flip else picture


def images(workers: int | None = None) -> ResidentImages | StreamedImages:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(16 * STEPS + 3) % 2
    pixels = (torch.randint(0, 120, (len(labels), 3, 8, 8), generator=generator) + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    if workers is None:
        return ResidentImages(pixels, labels, 2, Preprocess())
    return StreamedImages(Pixels(pixels, labels), 2, Preprocess(), 8, num_workers=workers)


def train(model: nn.Module, data, recipe: Recipe, **more):
    teacher = Teacher(network(1), 8, CPU, Mode()) if recipe.distill else None
    return finetune(model, data, recipe, side_px=8, seed=7, device=CPU, mode=Mode(), teacher=teacher, **more)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Killed(BaseException):
    pass


def at(step: int, act: Callable[[], None]) -> Callable[..., None]:
    def on_step(done: int, steps: int, *more: object) -> None:
        if done == step:
            act()

    return on_step


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("step", [4, 12, 15])
def test_killed_within_an_epoch_it_goes_on_at_that_step(recipe, step, tmp_path):
    whole, broken, resumed = network(), network(), network()
    undisturbed = train(whole, images(), recipe)
    path = tmp_path / "trial.resume"
    with pytest.raises(Killed):
        train(broken, images(), recipe, on_step=at(step, kill), resume_path=path, save_s=0)
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    steps: list[int] = []
    done = train(resumed, images(), recipe, on_step=lambda now, *_: steps.append(now), resume_path=path, save_s=0)
    assert steps[0] == step, "all steps but the one that was under way are kept"
    assert same(whole, resumed)
    assert done.losses == undisturbed.losses
    assert not path.exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_images_go_on_in_the_same_order(workers, tmp_path):
    recipe = RECIPES["randaugment"]
    whole, resumed, path = network(), network(), tmp_path / "trial.resume"
    train(whole, images(workers), recipe)
    with pytest.raises(Killed):
        train(network(), images(workers), recipe, on_step=at(9, kill), resume_path=path, save_s=0)
    train(resumed, images(workers), recipe, resume_path=path)
    assert same(whole, resumed)


def test_a_training_leaves_nothing_that_only_the_collector_could_free():
    """Model and images would stay in memory until it comes, and the loader's workers too, each of which it waits 5 s for."""
    model, data = network(), images(2)
    kept = weakref.ref(model), weakref.ref(data)
    gc.collect()
    gc.disable()
    try:
        train(model, data, RECIPES["averaged"])
        del model, data
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()


def test_the_state_is_saved_after_the_time_that_was_set(tmp_path, monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    # The thread in the background is waited for, and what saving costs counts for nothing.
    true_save = saving.Saving.save
    monkeypatch.setattr(saving.Saving, "save", lambda self, state, wait=False: true_save(self, state, wait=True))
    monkeypatch.setattr(saving, "SHARE", 1e9)
    path = tmp_path / "trial.resume"

    def tick(step: int, steps: int, *more: object) -> None:
        saved.append(torch.load(path, weights_only=True)["step"] if path.exists() else 0)
        now[0] += 4.0

    train(network(), images(), RECIPES["plain"], on_step=tick, resume_path=path, save_s=10)
    assert saved == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9, 12, 12, 12, 15, 15, 15]
    saved.clear()
    train(network(), images(), RECIPES["plain"], on_step=tick, resume_path=path, save_s=600)
    assert sorted(set(saved)) == [0, 6, 12], "after each epoch in any case"


def test_a_state_of_version_0_1_is_taken_up(tmp_path):
    whole, resumed, path = network(), network(), tmp_path / "trial.resume"
    train(whole, images(), RECIPES["plain"])
    with pytest.raises(Killed):
        train(network(), images(), RECIPES["plain"], on_step=at(8, kill), resume_path=path)
    state = torch.load(path, weights_only=True)
    del state["place"]
    torch.save(state, path)
    train(resumed, images(), RECIPES["plain"], resume_path=path)
    assert same(whole, resumed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("step", [1, 9, 12, 18])
def test_a_signal_saves_at_once_and_nothing_is_lost(number, step, tmp_path):
    whole, resumed, path = network(), network(), tmp_path / "trial.resume"
    train(whole, images(), RECIPES["averaged"])
    before = signal.getsignal(number)
    ask = at(step, lambda: os.kill(os.getpid(), number))
    with pytest.raises(InterruptedRunError, match=f"asked to stop by {number.name}.*run the same command again"), heeding_signals():
        train(network(), images(), RECIPES["averaged"], on_step=ask, resume_path=path)
    assert signal.getsignal(number) == before
    steps: list[int] = []
    train(resumed, images(), RECIPES["averaged"], on_step=lambda now, *_: steps.append(now), resume_path=path)
    assert steps == list(range(step + 1, EPOCHS * STEPS + 1))
    assert same(whole, resumed)


def test_a_signal_that_kills_the_loaders_workers_too_loses_nothing(tmp_path):
    """A batch queue signals every process of a job; a dead worker then fails the next batch."""
    whole, resumed, path = network(), network(), tmp_path / "trial.resume"
    train(whole, images(0), RECIPES["plain"])

    class Dying(StreamedImages):
        def epoch(self, *args, skip: int = 0, **more):
            for number, batch in enumerate(super().epoch(*args, skip=skip, **more), skip):
                if number == 3 and not skip:
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")
                yield batch

    data = images(0)
    data.__class__ = Dying
    with pytest.raises(InterruptedRunError), heeding_signals():
        train(network(), data, RECIPES["plain"], resume_path=path)
    assert torch.load(path, weights_only=True)["step"] == 3
    train(resumed, images(0), RECIPES["plain"], resume_path=path)
    assert same(whole, resumed)


def test_a_signal_after_the_very_last_step_loses_no_epoch(tmp_path):
    whole, resumed, path = network(), network(), tmp_path / "trial.resume"
    train(whole, images(), RECIPES["averaged"])

    class Late(ResidentImages):
        def epoch(self, *args, epoch: int, **more):
            yield from super().epoch(*args, epoch=epoch, **more)
            if epoch == EPOCHS - 1:
                os.kill(os.getpid(), signal.SIGTERM)

    data = images()
    data.__class__ = Late
    with pytest.raises(InterruptedRunError), heeding_signals():
        train(network(), data, RECIPES["averaged"], resume_path=path)
    steps: list[int] = []
    train(resumed, images(), RECIPES["averaged"], on_step=lambda now, *_: steps.append(now), resume_path=path)
    assert steps == [] and same(whole, resumed)


class Small(nn.Module):
    """Memory that holds no more than `most` images at a time."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.most, self.error, self.seen = most, error, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            if len(x) > self.most:
                raise self.error(f"[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate {len(x)} bytes.")
            self.seen.append(len(x))
        return x


def without_norm(most: int, error: type[Exception] = torch.OutOfMemoryError) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Small(most, error), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("recipe", [Recipe(**{**PLAIN, "batch_size": 15}), Recipe(**PLAIN, mixup=0.4), Recipe(**PLAIN, distill=0.7)])
def test_a_batch_too_large_for_memory_is_trained_in_parts_with_the_same_step(recipe, error, caplog):
    told: list[int] = []
    whole, split = without_norm(99), without_norm(5, error)
    train(whole, images(), recipe)
    machine = Machine(remember=lambda learnt: told.append(learnt.batch_parts))
    train(split, images(), recipe, machine=machine)
    assert told == [2, 4] and machine.batch_parts == 4
    assert caplog.text.count("does not fit in memory") == 2
    assert sum(split[0].seen) == sum(whole[0].seen) and max(split[0].seen) <= 4 and min(split[0].seen) >= 3
    for wanted, found in zip(whole.parameters(), split.parameters(), strict=True):
        assert torch.allclose(wanted, found, atol=1e-5)
    start = without_norm(99)
    assert not torch.allclose(start[1].weight, whole[1].weight, atol=1e-3), "it has learnt something"


def test_what_a_run_has_learnt_about_memory_is_used_from_the_start(caplog):
    model = without_norm(5)
    train(model, images(), RECIPES["plain"], machine=Machine(batch_parts=4))
    assert set(model[0].seen) == {4} and "does not fit" not in caplog.text


def test_the_failed_attempt_leaves_no_trace_in_the_random_numbers():
    def dropping(most: int) -> nn.Module:
        torch.manual_seed(0)
        head = [nn.Flatten(), nn.Dropout(0.5), Small(most), nn.Linear(192, 2)]
        return nn.Sequential(*head)

    known, failing = dropping(8), dropping(8)
    train(known, images(), RECIPES["plain"], machine=Machine(batch_parts=2))
    train(failing, images(), RECIPES["plain"])
    assert same(known, failing)


def test_the_parts_of_a_batch_are_kept_in_the_state(tmp_path):
    path = tmp_path / "trial.resume"
    with pytest.raises(Killed):
        train(without_norm(8), images(), RECIPES["plain"], on_step=at(3, kill), resume_path=path, save_s=0)
    resumed = without_norm(99)
    train(resumed, images(), RECIPES["plain"], resume_path=path)
    assert set(resumed[0].seen) == {8}


def test_memory_for_not_even_two_images_is_an_error_with_a_sentence():
    with pytest.raises(TrainingError, match="memory for at least two images of 8 px at a time on cpu"):
        train(without_norm(1), images(), RECIPES["plain"])
    with pytest.raises(RuntimeError, match=r"^other$"):
        train(nn.Sequential(nn.Flatten(), Raising()), images(), RECIPES["plain"])


class Raising(nn.Linear):
    def __init__(self) -> None:
        super().__init__(192, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("other")
        return super().forward(x)


def test_a_fall_of_the_speed_changes_the_threads_of_a_free_machine_only(monkeypatch):
    falls: list[tuple[tuple[int, ...], float]] = []
    monkeypatch.setattr(Machine, "look_again", lambda self, model, shape, device, mode, share: falls.append((shape, share)))
    now = [0.0]

    def slow_down(step: int, steps: int, *more: object) -> None:
        now[0] += 1.0 if step <= 8 else 10.0

    class OnClock(loop.Pace):
        def __init__(self, on_fall):
            super().__init__(on_fall, clock=lambda: now[0])

    monkeypatch.setattr(loop, "Pace", OnClock)
    train(network(), images(), RECIPES["plain"], on_step=slow_down, machine=Machine(is_free=False))
    assert falls == []
    train(network(), images(), RECIPES["plain"], on_step=slow_down, machine=Machine(is_free=True))
    assert falls == [((16, 3, 8, 8), pytest.approx(2 / 11))], "a window with one step of each speed"
