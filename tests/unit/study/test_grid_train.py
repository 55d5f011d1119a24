"""One network of a grid, on a handful of synthetic images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triaxis.data.images import Preprocess, ResidentImages
from triaxis.errors import StoreError
from triaxis.metrics.macs import count_macs
from triaxis.study.grid_networks import NetworkSpec
from triaxis.study.grid_train import Bench, compile_for_training, matmul_peak_flops
from triaxis.training.mode import Mode
from triaxis.values import Recipe

RECIPE = Recipe(epochs=2, batch_size=16, crop_px=1)


def images(num: int, seed: int) -> ResidentImages:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 3
    pixels = torch.randint(0, 120, (num, 3, 8, 8), generator=generator)
    pixels[torch.arange(num), labels] += 120
    return ResidentImages(pixels.to(torch.uint8), labels, 3, Preprocess())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        train=images(48, 0),
        test=images(30, 1),
        data_digest="abc",
        device=torch.device("cpu"),
        mode=Mode(memory_format="contiguous"),
        is_compiled=False,
        resume_dir=tmp_path,
    )


def spec(**changes) -> NetworkSpec:
    found = {"family": "resnet", "layers": 8, "width": 0.25, "side_px": 6, "seed": 0, "recipe": RECIPE, "data_digest": "abc"}
    return NetworkSpec(**{**found, **changes})


def numbers(result) -> tuple:
    return result.accuracy, result.loss, result.macs, result.params


@pytest.mark.parametrize(("family", "layers"), [("resnet", 8), ("densenet", 7)])
def test_a_network_is_trained_counted_and_scored(bench: Bench, family: str, layers: int) -> None:
    found = bench.train_network(spec(family=family, layers=layers))
    assert found.state == "done" and found.num_test == 30 and found.num_images == 2 * 48
    network = bench.build(family, (layers, 0.25, 6))  # type: ignore[arg-type]
    assert found.macs == count_macs(network, (3, 6, 6))
    assert found.images_per_second == pytest.approx(96 / found.seconds)


def test_the_numbers_depend_on_the_spec_alone(bench: Bench) -> None:
    first = bench.train_network(spec())
    torch.rand(5)
    bench.train_network(spec(seed=1))
    assert numbers(bench.train_network(spec())) == numbers(first)
    assert bench.train_network(spec(seed=1)).loss != first.loss


def test_a_network_stopped_between_epochs_goes_on_from_there(bench: Bench) -> None:
    whole = bench.train_network(spec())
    steps = []

    def stop(step: int, *_: object) -> None:
        steps.append(step)
        if len(steps) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.attempt(spec(), stop)
    again = bench.attempt(spec(), lambda step, *_: steps.append(step))
    assert steps == [1, 2, 3, 4, 5, 4, 5, 6]
    assert numbers(again) == numbers(whole)
    assert not list(bench.resume_dir.iterdir())


def test_a_failure_is_a_record_with_its_reason(bench: Bench) -> None:
    found = bench.attempt(spec(recipe=Recipe(epochs=1, batch_size=512)))
    assert found.state == "failed" and found.accuracy is None
    assert "at least one batch of 512 images, got 48" in (found.error or "")


def test_a_full_disk_is_no_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Bench, "build", full)
    with pytest.raises(StoreError):
        bench.attempt(spec())


def test_only_training_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compile_(forward):
        return lambda x: calls.append("fast") or forward(x)

    monkeypatch.setattr(torch, "compile", compile_)
    network = torch.nn.Linear(2, 2)
    x = torch.ones(1, 2)
    plain = network(x)
    compile_for_training(network)
    assert torch.equal(network.train()(x), plain) and calls == ["fast"]
    assert torch.equal(network.eval()(x), plain) and calls == ["fast"]


def test_the_peak_is_a_plausible_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triaxis.study.grid_train.PEAK_SIDES", {"cpu": 128})
    assert 1e7 < matmul_peak_flops(torch.device("cpu"), "fp32", repeats=2) < 1e14
