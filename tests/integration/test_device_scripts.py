"""The scripts in examples/devices, run as triaxis runs them; ssh, scp, adb and trtexec are stand-ins that print recorded output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from triaxis.config import load_config
from triaxis.config.tree import DeviceConfig
from triaxis.errors import DeviceError
from triaxis.metrics.runtimes import make_runtime

ROOT = Path(__file__).parents[2]
SCRIPTS, SAMPLES = ROOT / "examples" / "devices", ROOT / "tests" / "unit" / "metrics" / "samples"
NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def measured(command: str, form: str) -> float:
    settings = DeviceConfig(command=command, format=form, tries=1)  # type: ignore[arg-type]
    return make_runtime("phone", torch.device("cpu"), commands={"phone": settings}).prepare(NETWORK, (3, 8, 8), 2)()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put stand-ins in front of the programs of this machine; each notes how it was called."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def stand_in(name: str, script: str) -> Path:
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/calls"\n{script}\n')
        path.chmod(0o755)
        return tmp_path / "calls"

    return stand_in


def test_onnxruntime_at_the_far_end_reads_the_model_from_its_input() -> None:
    pytest.importorskip("onnxscript")
    assert 0 < measured(f"{sys.executable} {SCRIPTS / 'bench_onnxruntime.py'} - {{batch}} {{side}} 1", "onnx") < 1000


def test_trtexec_behind_ssh(programs) -> None:
    pytest.importorskip("onnxscript")
    programs("scp", "")
    calls = programs("ssh", f'case "$*" in *trtexec*) cat "{SAMPLES / "trtexec_10.txt"}";; esac')
    assert measured(f"{SCRIPTS / 'trtexec.sh'} jetson {{model}} {{batch}} {{side}} --fp16", "onnx") == 1.39775
    heard = calls.read_text()
    assert "--shapes=images:2x3x8x8 --fp16" in heard and "jetson rm -f" in heard


def test_a_phone_over_adb(programs) -> None:
    programs("convert", 'cp "$1" "$2"')
    calls = programs("adb", f'case "$*" in *benchmark_model*) cat "{SAMPLES / "benchmark_model.txt"}";; esac')
    command = f"{sys.executable} -S {SCRIPTS / 'android.py'} {{model}} {{batch}} --threads 2 --convert convert"
    assert measured(command, "pt2") == pytest.approx(33.2094)
    heard = calls.read_text()
    assert "model.tflite 2\n" in heard and "--num_threads=2" in heard and "rm -f" in heard


def test_a_phone_that_is_not_connected_is_named(programs) -> None:
    programs("adb", 'echo "adb: no devices/emulators found" >&2; exit 1')
    with pytest.raises(DeviceError, match="phone"):
        measured(f"{sys.executable} -S {SCRIPTS / 'android.py'} {{model}} {{batch}} --convert true", "pt2")


def test_the_example_is_a_configuration() -> None:
    config = load_config(SCRIPTS / "phone.yaml")
    assert [budget.metric for budget in config.budgets] == ["latency_ms@onnxruntime-1t", "latency_ms@phone"]
    assert set(config.profile.commands) == {"phone"}
