"""What the user holds, and how the model is called, from the configuration to the loaded file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import triaxis
from triaxis.config import config_from_plain, load_config
from triaxis.deliver.bundle import export_run
from triaxis.errors import ConfigError, ExperimentMismatchError
from triaxis.models.cifar import resnet
from triaxis.stages.pipeline import run

FEW = {"batch_size": 16, "crop_px": 0, "flip": False}
LOW = {"min_width": 0.5, "min_resolution": 0.9}
PLAIN = {
    "precision": "fp32",
    "threads": 1,
    "budget": "macs=75%",
    "base": {"epochs": 1, **FEW},
    "collect": {"num_trials": 4, "recipe": {"epochs": 1, **FEW}, "block_images": 16, "calibrate_images": 16, **LOW},
    "finetune": {"epochs": 1, **FEW},
    "width": {"round_to": 2},
    "profile": {"batches": [1], "repeats": 3},
    "export": {"formats": ["safetensors"]},
}


def pictures(channels: int = 3, num: int = 48) -> TensorDataset:
    labels = torch.arange(num) % 3
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(num, channels, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1), labels)


def splits(channels: int = 3) -> list[TensorDataset]:
    return [pictures(channels)] * 3


class Masked(nn.Module):
    """Takes a picture and a mask, one of them by keyword only."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.gate = nn.Conv2d(1, 16, 3, padding=1)
        self.body = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for _ in range(3))
        self.head = nn.Linear(16, num_classes)

    def forward(self, picture: Tensor, *, mask: Tensor) -> Tensor:
        x = torch.relu(self.stem(picture)) * torch.sigmoid(self.gate(mask))
        for layer in self.body:
            x = x + layer(x)
        return self.head(x.mean((2, 3)))


def masked(num_classes: int) -> nn.Module:
    return Masked(num_classes)


def with_masks() -> list[TensorDataset]:
    return splits(4)


def picture_and_mask(pictures: Tensor) -> dict[str, Tensor]:
    return {"picture": pictures[:, :3], "mask": pictures[:, 3:]}


def nothing(pictures: Tensor) -> int:
    return 3


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """This file as a module of the user's own."""
    (tmp_path / "masked_nets.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(tmp_path)
    return "masked_nets"


def test_a_model_that_takes_a_picture_and_a_mask_from_yaml_to_export(module: str, tmp_path: Path, command: Callable[..., Any]) -> None:
    pytest.importorskip("onnxruntime")
    plain = {**PLAIN, "model": f"{module}:masked", "data": f"{module}:with_masks", "example_input": f"{module}:picture_and_mask"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**plain, "export": {"formats": ["safetensors", "pt2"]}}))
    place = tmp_path / "run"
    done = command("run", tmp_path / "run.yaml", "--out", place)
    assert done.returncode == 0, done.stderr
    summary = json.loads((place / "summary.json").read_text())
    assert summary["compressed"]["macs"] <= 0.75 * summary["base"]["macs"]
    with pytest.raises(ConfigError, match="runs only with your leave"):
        triaxis.load(place / "compressed", model=Masked())
    model = triaxis.load(place / "compressed", allow_code=True)
    x = torch.randn(2, 4, *json.loads((place / "compressed" / "plan.json").read_text())["input"][1:])
    logits = model(x)
    assert torch.equal(logits, model(x[:, :3], mask=x[:, 3:]))
    assert not torch.allclose(logits, model(x[:, :3], mask=-x[:, 3:]))
    again = torch.export.load(place / "compressed" / "model.pt2").module()
    assert torch.allclose(again(x), logits, atol=1e-4)
    assert command("export", place, "--format", "onnx").returncode == 0
    bad = command("inspect", f"{module}:masked", "--input", "8", "--channels", "4", "--example-input", f"{module}:nothing")
    assert bad.returncode == ConfigError.exit_code and "must return a tuple" in bad.stderr.replace("\n", " ")


def test_a_function_that_is_not_there_or_fails_is_named_before_anything_is_trained(module: str, tmp_path: Path) -> None:
    for name, words in (("nobody", "example_input must name an importable"), ("nothing", "must return a tuple of the model's arguments")):
        config = config_from_plain(
            {**PLAIN, "model": f"{module}:masked", "data": f"{module}:with_masks", "example_input": f"{module}:{name}"}
        )
        with pytest.raises(ConfigError, match=words):
            run(config, tmp_path / name)
        assert not list((tmp_path / name / "checkpoints").glob("*"))


def test_modules_are_held_from_the_command_line_to_the_loaded_file(tmp_path: Path, command: Callable[..., Any]) -> None:
    file, place = tmp_path / "run.yaml", tmp_path / "run"
    data = {"source": "digits", "side_px": 8, "max_train_images": 64}
    plain = {**PLAIN, "model": {"name": "cifar:resnet14", "args": {"width": 0.5}}, "data": data, "budget": "macs=52%"}
    file.write_text(yaml.safe_dump(plain))
    wrong = command("run", file, "--out", place, "--protect", "stage.0")
    assert wrong.returncode == ConfigError.exit_code and "nearest are stages.0" in wrong.stderr.replace("\n", " ")
    assert not list((place / "checkpoints").glob("*"))
    done = command("run", file, "--out", place, "--protect", "stages.0", "--protect", "conv1")
    assert done.returncode == 0, done.stderr
    description = json.loads((place / "compressed" / "plan.json").read_text())
    assert description["source"]["protect"] == ["stages.0", "conv1"] and description["plan"]["channels"]
    state, base = triaxis.load(place / "compressed").state_dict(), resnet(14, width=0.5).state_dict()
    held = [name for name in base if name.startswith(("stages.0.", "conv1."))]
    assert held and all(state[name].shape == base[name].shape for name in held)
    assert load_config(place / "config.yaml").protect == ("stages.0", "conv1")
    other = command("run", file, "--out", place, "--protect", "stages.1")
    assert other.returncode == ExperimentMismatchError.exit_code and "protect" in other.stderr
    assert export_run(place, "pt2").exists()


def test_frozen_weights_stay_as_they_are_cut_or_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = resnet(14, width=0.5, num_classes=3)
    model.stages[1].requires_grad_(False)
    found = triaxis.compress(
        model, splits(), budget="macs=60%", out=tmp_path / "run", config=config_from_plain(PLAIN), prune_only=["stages.1", "stages.2"]
    )
    weights, state = dict(found.model.named_parameters()), model.state_dict()
    frozen = {name: p for name, p in weights.items() if name.startswith("stages.1.")}
    assert frozen and not any(p.requires_grad for p in frozen.values())
    assert any(p.shape != state[name].shape for name, p in frozen.items())
    for name, weight in frozen.items():
        assert set(weight.flatten().tolist()) <= set(state[name].flatten().tolist()), name
    assert any(not torch.equal(p.cpu(), state[name]) for name, p in weights.items() if p.requires_grad and p.shape == state[name].shape)
    assert weights["stages.0.0.conv1.weight"].shape == state["stages.0.0.conv1.weight"].shape
