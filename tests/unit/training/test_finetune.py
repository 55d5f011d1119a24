"""The training loop: it learns, repeats itself exactly, resumes exactly, and stops at NaN."""

from __future__ import annotations

import copy
import io
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from triaxis.data.images import Preprocess, ResidentImages
from triaxis.errors import TrainingError, UnsupportedModelError
from triaxis.training.calibrate import calibrate
from triaxis.training.evaluate import evaluate, loss_with_batch_statistics
from triaxis.training.loop import finetune
from triaxis.training.mode import Mode
from triaxis.training.teacher import Teacher
from triaxis.values import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=3, batch_size=16, crop_px=1, peak_lr=0.05)


@pytest.fixture
def images() -> ResidentImages:
    """Two classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 2
    pixels = torch.randint(0, 120, (96, 3, 8, 8), generator=generator) + 100 * labels.view(-1, 1, 1, 1)
    return ResidentImages(pixels.to(torch.uint8), labels, 2, Preprocess())


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )


def train(model: nn.Module, images: ResidentImages, recipe: Recipe = RECIPE, **more):
    return finetune(model, images, recipe, side_px=8, seed=7, device=CPU, mode=Mode(), **more)


@torch.no_grad()
def shares(model: nn.Module, images: ResidentImages) -> torch.Tensor:
    return torch.cat([model(batch.images) for batch in images.in_order(8)]).softmax(1)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_an_easy_task_and_reports_what_it_took(images):
    model = network()
    log = train(model, images, Recipe(epochs=8, batch_size=16, crop_px=1, peak_lr=0.1))
    assert evaluate(model, images, 8, CPU).value > 0.95
    assert log.num_images == 8 * 96 and len(log.losses) == 8 and log.losses[-1] < log.losses[0]
    assert not model.training


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
def test_any_number_of_steps_trains(images, steps, warmup):
    few = ResidentImages(images.images[:16], images.labels[:16], 2, Preprocess())
    log = train(network(), few, Recipe(epochs=steps, batch_size=16, crop_px=0, warmup=warmup, peak_lr=0.01))
    assert log.num_images == 16 * steps


def test_the_same_seed_gives_the_same_weights(images):
    first, second = network(), network()
    train(first, images)
    train(second, images)
    assert same(first, second)


@pytest.mark.parametrize(
    "recipe", [RECIPE, Recipe(epochs=3, batch_size=16, average_last=0.5, distill=0.5, optimizer="adamw", peak_lr=0.01)]
)
def test_a_training_cut_off_between_epochs_ends_as_if_undisturbed(images, tmp_path, recipe):
    teacher = Teacher(network(1), 8, CPU, Mode())
    whole = network()
    train(whole, images, recipe, teacher=teacher)

    class Killed(BaseException):
        pass

    def kill(step: int, *_: object) -> None:
        if step == 8:  # in the second of three epochs of six steps
            raise Killed

    path = tmp_path / "trial.resume"
    broken = network()
    with pytest.raises(Killed):
        train(broken, images, recipe, teacher=teacher, on_step=kill, resume_path=path)
    assert path.exists()
    resumed = network()
    steps = []
    train(resumed, images, recipe, teacher=teacher, on_step=lambda step, *_: steps.append(step), resume_path=path)
    assert steps[0] == 7
    assert same(whole, resumed)
    assert not path.exists()


class Killed(BaseException):
    pass


def interrupted(images: ResidentImages, path: Path) -> None:
    """Leave the state after the first of three epochs of six steps."""

    def kill(step: int, *_: object) -> None:
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        train(network(), images, on_step=kill, resume_path=path)


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(data: bytes, bit: int = 16) -> bytes:
    """Flip a bit in the middle of the largest entry; between entries lies padding, where it would not matter."""
    largest = max(zipfile.ZipFile(io.BytesIO(data)).infolist(), key=lambda entry: entry.file_size)
    # A local header of 30 bytes, the name and the extra field stand before the entry's own bytes.
    name, extra = struct.unpack_from("<HH", data, largest.header_offset + 26)
    at = largest.header_offset + 30 + name + extra + largest.file_size // 2
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def flip_a_value(content: bytes) -> bytes:
    """Change a number by its least bit, which no check of types or shapes would find."""
    return flip_a_bit(content, 1)


def of_another_network(content: bytes) -> bytes:
    file = io.BytesIO()
    state = torch.load(io.BytesIO(content), weights_only=True)
    torch.save({**state, "model": {name.replace("5.", "6."): tensor for name, tensor in state["model"].items()}}, file)
    return file.getvalue()


@pytest.mark.parametrize("harm", [cut_in_half, flip_a_bit, flip_a_value, of_another_network, lambda _: b"", lambda _: b"no archive"])
def test_a_damaged_state_costs_its_epochs_and_does_not_block(images, tmp_path, harm, caplog):
    path, whole, steps = tmp_path / "trial.resume", network(), []
    train(whole, images)
    interrupted(images, path)
    path.write_bytes(harm(path.read_bytes()))
    again = network()
    train(again, images, on_step=lambda step, *_: steps.append(step), resume_path=path)
    assert steps[0] == 1 and same(whole, again) and not path.exists()
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "trial.resume cannot be used" in caplog.text


def test_a_state_of_version_0_1_is_gone_on_from(images, tmp_path):
    path, whole, steps = tmp_path / "trial.resume", network(), []
    train(whole, images)
    interrupted(images, path)
    torch.save(torch.load(path, weights_only=True), path)  # as that version wrote it: by name
    again = network()
    train(again, images, on_step=lambda step, *_: steps.append(step), resume_path=path)
    assert steps[0] == 7 and same(whole, again)


def test_the_state_is_synced_before_it_is_renamed_and_the_directory_after(images, tmp_path, monkeypatch):
    events: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("rename"), replace(old, new)))
    interrupted(images, tmp_path / "trial.resume")
    assert events == ["file", "rename", "directory"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from triaxis.errors import StoreError
from triaxis.training.resume import write_resume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
write_resume(path, {"epochs_done": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_resume(path, {"epochs_done": 2, "model": torch.zeros(100_000)})
except StoreError as error:
    print(error)
"""


def test_a_full_disk_is_one_sentence_and_leaves_the_state_before(tmp_path):
    path = tmp_path / "base.resume"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert "base.resume must have room, but the disk is full" in done.stdout and done.stdout.count("\n") == 1
    assert torch.load(path, weights_only=True) == {"epochs_done": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_distillation_pulls_the_student_to_the_teacher(images):
    teacher = Teacher(network(3), 8, CPU, Mode())
    wanted = shares(teacher.model, images)

    def distance(share: float) -> float:
        student = network()
        train(student, images, Recipe(epochs=6, batch_size=16, crop_px=0, flip=False, peak_lr=0.1, distill=share), teacher=teacher)
        return (shares(student, images) - wanted).abs().mean().item()

    assert distance(1.0) < 0.5 * distance(0.0)


def test_the_teachers_memory_holds_what_it_would_say(images):
    teacher = Teacher(network(1), 8, CPU, Mode())
    table = teacher.bank(images, RECIPE, seed=7, epoch=1)
    for batch in images.epoch(8, RECIPE, seed=7, epoch=1):
        assert torch.allclose(table[batch.indices], teacher.look(batch.images), atol=1e-5)
    seen = teacher.num_seen
    teacher.bank(images, RECIPE, seed=7, epoch=1)
    assert teacher.num_seen == seen


def test_the_average_of_the_last_steps_is_taken(images):
    plain, averaged = network(), network()
    train(plain, images)
    train(averaged, images, Recipe(**{**_fields(RECIPE), "average_last": 0.5}))
    assert not same(plain, averaged)


def test_mixing_and_randaugment_train(images):
    for extra in ({"mixup": 0.2}, {"cutmix": 1.0}, {"randaugment": "2,9"}):
        log = train(network(), images, Recipe(**{**_fields(RECIPE), **extra}), teacher=Teacher(network(1), 8, CPU, Mode()))
        assert log.losses[-1] < 5


def test_nan_stops_training_with_a_sentence(images):
    model = network()
    model[0].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingError, match="must be finite, got nan at step 1 of 18"):
        train(model, images)
    with pytest.raises(TrainingError, match="outputs must be finite"):
        evaluate(model, images, 8, CPU)


def test_a_model_with_other_outputs_is_refused(images):
    model = network()
    model[5] = nn.Linear(8, 5)
    with pytest.raises(UnsupportedModelError, match=r"must be \(16, 2\).*got \(16, 5\)"):
        train(model, images)


def test_calibration_gives_the_mean_and_variance_of_the_activations(images):
    model = network()
    model[1].running_mean.fill_(9.0)
    calibrate(model, images, 8, CPU, recipe=Recipe(crop_px=0, flip=False), num_images=96)
    batch = next(iter(images.in_order(8)))
    activations = model[0](batch.images)
    assert torch.allclose(model[1].running_mean, activations.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(model[1].running_var, activations.var((0, 2, 3)), rtol=1e-2)
    assert model[1].momentum == 0.1 and not model[1].training


@pytest.mark.parametrize("num_images", [1, 10, 96, 1000])
def test_calibration_always_sees_images(images, num_images):
    model = network()
    calibrate(model, images, 8, CPU, recipe=RECIPE, num_images=num_images)
    assert (model[1].running_var != 1).all() and (model[1].running_mean != 0).all()


def test_the_loss_with_batch_statistics_is_that_after_calibration(images):
    model = network()
    train(model, images)
    model[1].running_mean.fill_(3.0)
    quick = loss_with_batch_statistics(model, images, 8, CPU, num_images=96)
    calibrate(model, images, 8, CPU, recipe=Recipe(crop_px=0, flip=False), num_images=96)
    assert quick == pytest.approx(evaluate(model, images, 8, CPU).loss, rel=0.02)


def test_balanced_accuracy_is_the_mean_recall():
    constant = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    nn.init.zeros_(constant[1].weight)
    constant[1].bias.data = torch.tensor([1.0, 0.0])
    data = ResidentImages(torch.zeros(10, 3, 2, 2, dtype=torch.uint8), torch.tensor([0] * 9 + [1]), 2, Preprocess())
    found = evaluate(constant, data, 2, CPU).numbers
    assert (found["accuracy"], found["balanced_accuracy"]) == (pytest.approx(0.9), pytest.approx(0.5))


def test_training_does_not_touch_a_copy(images):
    model = network()
    twin = copy.deepcopy(model)
    train(model, images)
    assert not same(model, twin)


def _fields(recipe: Recipe) -> dict:
    return {key: value for key, value in recipe.to_json().items() if key != "schema"}
