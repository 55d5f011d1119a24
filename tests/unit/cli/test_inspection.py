from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.deliver.inspect import inspect_model
from triaxis.deliver.load import load
from triaxis.errors import ConfigError
from triaxis.models.cifar import resnet
from triaxis.values import KeepRatios


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    keep = KeepRatios(depth=0.67, width=0.5, resolution=0.75)
    return inspect_model("cifar:resnet14", side_px=16, keep=keep, save=tmp_path_factory.mktemp("cut"))


def test_a_known_model_is_described(found: dict[str, Any]) -> None:
    assert found["cost"]["params"] == sum(p.numel() for p in resnet(14).parameters())
    assert [block["removable"] for block in found["blocks"]] == [True, True, False, True, False, True]
    assert all(text.startswith("open") for text in found["axes"].values())
    assert found["smallest_cut"]["achieved"]["depth"] == pytest.approx(3 / 6)
    assert found["sides_px"][0] == 16 and found["sides_px"][-1] == 8
    json.dumps(found, allow_nan=False)


def test_the_cut_achieves_what_was_asked_and_costs_what_the_saved_model_costs(found: dict[str, Any]) -> None:
    assert found["cut"]["achieved"] == pytest.approx({"depth": 4 / 6, "width": 0.5, "resolution": 0.75}, abs=0.08)
    model = load(Path(found["saved"][0]).parent)
    assert sum(p.numel() for p in model.parameters()) == found["cut"]["cost"]["params"] < 0.3 * found["cost"]["params"]
    assert model(torch.zeros(2, 3, 12, 12)).shape == (2, 10)


def test_the_smallest_cut_takes_the_fullest_stages_last_block_first(found: dict[str, Any]) -> None:
    removed = [line.strip("- ") for line in found["cut"]["plan"] if line.startswith("  - ")]
    assert removed == ["stages.1.1", "stages.2.1"]


def test_why_a_layer_and_a_block_stay_is_shown() -> None:
    arguments = ["inspect", "cifar:resnet14", "--input", "16", "--protect", "stages.1", "--protect", "conv1"]
    assert "no: it is in" in CliRunner().invoke(app, arguments, env={"COLUMNS": "160"}).stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    why = "it is in the list of modules to protect"
    assert {block["why"] for block in found["blocks"] if block["name"] == "stages.1.1"} == {why}
    assert found["whole_layers"]["stages.1.0.conv1"] == f"stages.1.0.conv1: {why}"
    wrong = CliRunner().invoke(app, ["inspect", "cifar:resnet14", "--prune-only", "stage.1"])
    assert wrong.exit_code == ConfigError.exit_code and "stages.1" in wrong.stderr


def test_a_model_nobody_knows_is_named() -> None:
    with pytest.raises(ConfigError, match="squeezenext"):
        inspect_model("timm:squeezenext")


def test_the_command_prints_tables_or_json(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def remembered(name: str, **options: Any) -> dict[str, Any]:
        asked.update(name=name, **options)
        return found

    monkeypatch.setattr("triaxis.deliver.inspect.inspect_model", remembered)
    arguments = ["inspect", "cifar:resnet14", "--keep", "width=0.5", "--input", "28", "--classes", "100"]
    text = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert text.exit_code == 0, text.output
    assert (asked["name"], asked["side_px"], asked["num_classes"], asked["keep"]) == ("cifar:resnet14", 28, 100, KeepRatios(width=0.5))
    for shown in ("open, down to 0.50", "stages.1.0", "this cut", "side 16 -> 12 px", "model.safetensors"):
        assert shown in text.stdout
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout) == found


def test_a_configuration_names_the_model_its_arguments_and_its_side(tmp_path: Path) -> None:
    text = "model: {name: cifar:resnet8, args: {width: 0.5}, num_classes: 7}\ndata: {side_px: 24}\n"
    (tmp_path / "run.yaml").write_text(text)
    plain = inspect_model("cifar:resnet8", args={"width": 0.5}, side_px=24, num_classes=7)
    asked = ["inspect", str(tmp_path / "run.yaml"), "--json"]
    assert json.loads(CliRunner().invoke(app, asked).stdout) == json.loads(json.dumps(plain))
    other = json.loads(CliRunner().invoke(app, [*asked, "--input", "16", "--classes", "3"]).stdout)
    assert (other["side_px"], other["num_classes"]) == (16, 3)
