"""A device behind a command: what it prints is read, and whatever it does wrong ends in one clear sentence."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from triaxis.config.tree import DeviceConfig, ProfileConfig
from triaxis.errors import ConfigError, DeviceError, RefusedModelError
from triaxis.metrics.gauge import SLOW_ROUNDS, Gauge
from triaxis.metrics.latency import LatencyMetric
from triaxis.metrics.runtimes import make_runtime
from triaxis.metrics.runtimes.answers import Answer, read_answer
from triaxis.metrics.runtimes.command import CommandRuntime
from triaxis.store import open_store

SAMPLES = Path(__file__).with_name("samples")
CPU = torch.device("cpu")

DEVICE = """
import os, pathlib, sys
here, model, batch, side = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
calls = here / "calls"
calls.write_text((calls.read_text() if calls.exists() else "") + f"{model.name} {batch} {side}\\n")
size = model.stat().st_size
assert len(sys.stdin.buffer.read()) == size
exec((here / "behaviour.py").read_text())
"""
"""A device that logs each call and then does what its file says; `size` is the model's length in bytes."""


class Device:
    """A fake device in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "device.py").write_text(DEVICE)
        self.does("print(size / 1e3)")

    def does(self, what: str) -> None:
        (self.folder / "behaviour.py").write_text(what)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def settings(self, **more: object) -> DeviceConfig:
        command = f"{sys.executable} -S '{self.folder / 'device.py'}' '{self.folder}' {{model}} {{batch}} {{side}}"
        return DeviceConfig.model_validate({"command": command, "format": "pt2", "tries": 2, "wait_s": 0, **more})

    def runtime(self, **more: object) -> CommandRuntime:
        runtime = make_runtime("phone", CPU, commands={"phone": self.settings(**more)})
        assert isinstance(runtime, CommandRuntime)
        return runtime


@pytest.fixture
def device(tmp_path: Path) -> Device:
    (tmp_path / "a device").mkdir()
    return Device(tmp_path / "a device")


def network(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()


SHAPE = (3, 8, 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.25", Answer(3.25)),
        ("warming up\n 3.25 ms \n\n", Answer(3.25)),
        ("1e-2ms", Answer(0.01)),
        ('{"median": 2.5, "spread": 0.1}', Answer(2.5, 0.1)),
        ('{"median_ms": 2.5, "device": "pi"}', Answer(2.5)),
        ("", None),
        ("took 3.25 ms", None),
        ("-3", None),
        ("0", None),
        ("nan", None),
        ('{"median": true}', None),
        ('{"median": ', None),
        ("1e999", None),
    ],
)
def test_the_last_line_is_read(text: str, expected: Answer | None) -> None:
    assert read_answer(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trtexec_10", Answer(1.39775)),
        ("trtexec_7", Answer(1.56128)),
        ("benchmark_model", Answer(33.2094, 0.45)),
    ],
)
def test_the_output_of_known_programs_is_read(name: str, expected: Answer) -> None:
    assert read_answer((SAMPLES / f"{name}.txt").read_text()) == expected


def test_the_command_gets_the_file_the_batch_and_the_side(device: Device) -> None:
    device.does("print(batch * side)")
    assert device.runtime().prepare(network(4), (3, 12, 12), 5)() == 60
    assert device.calls == ["model.pt2 5 12"]


def test_a_failure_is_tried_again(device: Device) -> None:
    device.does("print(7) if len(calls.read_text().splitlines()) == 2 else sys.exit('not yet')")
    assert device.runtime().prepare(network(4), SHAPE, 1)() == 7


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("print('all is well')", "no milliseconds on its last line, but 'all is well'"),
        ("print('x' * 10); sys.exit('connection refused')", "ended with code 1 and the words 'connection refused'"),
    ],
)
def test_a_device_that_gives_no_number_is_named_with_its_last_words(device: Device, behaviour: str, words: str) -> None:
    device.does(behaviour)
    with pytest.raises(DeviceError, match=words) as found:
        device.runtime().prepare(network(4), SHAPE, 1)()
    assert "phone" in str(found.value) and "2 tries" in str(found.value)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(device: Device) -> None:
    device.does("import subprocess; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])")
    start = time.perf_counter()
    with pytest.raises(DeviceError, match="had not ended after 1 s"):
        device.runtime(time_limit_s=1, tries=1).prepare(network(4), SHAPE, 1)()
    assert time.perf_counter() - start < 30


def test_a_model_that_the_device_refuses_is_told_from_a_device_that_is_gone(device: Device) -> None:
    runtime = device.runtime(tries=1)
    small, large = (runtime.prepare(network(channels), SHAPE, 1) for channels in (4, 64))
    small()
    limit = (small.path.stat().st_size + large.path.stat().st_size) // 2
    refusal = "print('Unsupported operator: HardSwish', file=sys.stderr); sys.exit('exit')"
    device.does(f"if size > {limit}: {refusal}\nprint(size / 1e3)")
    with pytest.raises(RefusedModelError, match="Unsupported operator: HardSwish"):
        large()
    device.does("sys.exit('no route to host')")
    with pytest.raises(DeviceError, match="no route to host"):
        large()


def test_another_order_of_magnitude_is_not_believed(device: Device) -> None:
    reading = device.runtime(tries=1).prepare(network(4), SHAPE, 1)
    reading()
    device.does("print(size)")
    with pytest.raises(DeviceError, match="before of the same model"):
        reading()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program {model}", "a program that can be run here, got 'no-such-program'"),
        (f"{sys.executable} {{modell}}", r"got \{modell\}"),
        ("python 'unfinished", "as for a shell"),
        (" ", "got an empty text"),
    ],
)
def test_a_command_that_cannot_work_is_refused_at_once(command: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_runtime("command", CPU, commands=ProfileConfig(command=command).commands)


def test_the_runtime_command_needs_a_command() -> None:
    with pytest.raises(ConfigError, match=r"needs profile\.command"):
        make_runtime("command", CPU)


def test_a_device_needs_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="that no runtime has, got eager"):
        ProfileConfig.model_validate({"devices": {"eager": "true"}})


def gauge(device: Device, folder: Path, **more: object) -> Gauge:
    return Gauge(LatencyMetric(device.runtime(**more), 1, "latency_ms@phone"), network(32), SHAPE, open_store(folder / "store.sqlite"))


def test_base_and_cut_are_read_in_turns_and_never_twice(device: Device, tmp_path: Path) -> None:
    first = gauge(device, tmp_path).measure(network(4), SHAPE)
    assert first.ratio < 1 and first.rounds == SLOW_ROUNDS
    assert len(device.calls) == 2 * SLOW_ROUNDS
    again = gauge(device, tmp_path).measure(network(4), SHAPE)
    assert again == first
    assert len(device.calls) == 2 * SLOW_ROUNDS, "what the store keeps is not measured again"
    gauge(device, tmp_path).measure(network(4), SHAPE, anew=True)
    assert len(device.calls) == 4 * SLOW_ROUNDS


def test_a_device_that_goes_away_costs_one_round(device: Device, tmp_path: Path) -> None:
    healthy = "print(size / 1e3)"
    device.does(f"{healthy} if len(calls.read_text().splitlines()) <= 6 else sys.exit('gone')")
    with pytest.raises(DeviceError, match="what was measured is kept"):
        gauge(device, tmp_path, tries=1).measure(network(4), SHAPE)
    done = len(device.calls)
    device.does(healthy)
    gauge(device, tmp_path).measure(network(4), SHAPE)
    assert len(device.calls) - done == 2 * (SLOW_ROUNDS - 3)


def test_a_device_that_changed_its_unit_between_two_processes_is_found(device: Device, tmp_path: Path) -> None:
    gauge(device, tmp_path).measure(network(4), SHAPE)
    device.does("print(size)")
    with pytest.raises(DeviceError, match="base model must be of the order that it was"):
        gauge(device, tmp_path).measure(network(8), SHAPE)
