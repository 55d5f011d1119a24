"""`triaxis doctor` says what is true of this machine."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.config import Config
from triaxis.errors import ConfigError
from triaxis.stages import doctor

ROOT = Path(__file__).parents[3]


def test_the_extras_are_those_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    users = {name: lines for name, lines in declared.items() if name not in ("dev", "docs")}
    packages = {name: {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in lines} for name, lines in users.items()}  # type: ignore[index]
    # An extra may build on another one of triaxis' own.
    own = {name: found - {"triaxis"} for name, found in packages.items()}
    assert {name: set(extra.packages) for name, extra in doctor.EXTRAS.items()} == own


def test_it_measures_a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TRAIN_BATCH", 8)
    monkeypatch.setattr(doctor, "ROUNDS", 1)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0] or found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
    speed = found["speed"]
    assert set(speed["train_images_per_s"]) == {"fp32", "bf16"} and min(speed["train_images_per_s"].values()) > 0
    assert speed["run_images_per_s"] > 0 and speed["latency_ms"] > 0


def test_a_missing_extra_is_named_with_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in ("ray", "onnxruntime") else find(name, *more))
    monkeypatch.setitem(doctor.EXTRAS, "tensorboard", doctor.Extra(("json",), "nothing"))
    done = CliRunner().invoke(app, ["doctor", "--no-measure"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert re.search(r"onnx +│ missing: onnxruntime +│ export.formats: \[onnx\]", done.stdout)
    assert re.search(r"tensorboard +│ installed", done.stdout)
    assert "pip install 'triaxis[onnx,ray]'" in done.stdout
    assert "images/s" not in done.stdout


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(ConfigError, match="cuda"):
        doctor.examine_machine(Config(device="cuda"), measure=False)
