"""Each way of use in examples/, run in small: the file as it stands, with less data and fewer epochs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import Subset, TensorDataset

import triaxis
from triaxis.config import COLLECT_RECIPE, FINETUNE_RECIPE, config_from_plain
from triaxis.data.images import Sealed
from triaxis.errors import ExperimentMismatchError
from triaxis.models.cifar import resnet
from triaxis.stages.pipeline import run
from triaxis.store import open_store
from triaxis.store.directory import RunDirectory

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"epochs": 1, "batch_size": 16}

MODULES = {
    "nets.py": """
from torch import nn

class Branch(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.GELU())

    def forward(self, x):
        return x + self.body(x)

def small_cnn(num_classes, width=32):
    blocks = [Branch(width) for _ in range(3)]
    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
""",
    "data.py": """
import torch
from torch.utils.data import TensorDataset

def load():
    labels = torch.arange(96) % 3
    images = torch.randn(96, 3, 16, 16) + labels.view(-1, 1, 1, 1)
    return [TensorDataset(images, labels)] * 3
""",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three classes of 40 pictures each that differ in colour."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog", "fox")):
        (root / name).mkdir()
        for number in range(40):
            pixels = rng.integers(0, 120, (34, 40, 3))
            pixels[:, :, label] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def in_small(name: str, **changes) -> dict:
    plain = yaml.safe_load((EXAMPLES / name).read_text())
    plain["base"] = {**plain.get("base", {}), **SMALL, "epochs": 2}
    plain["finetune"] = {**plain.get("finetune", {}), **SMALL}
    plain["collect"] = {"recipe": SMALL, "num_trials": 4, "block_images": 16, "calibrate_images": 32}
    plain["profile"] = {**plain.get("profile", {}), "batches": [1, 8], "repeats": 5}
    return {**plain, "threads": 1, "precision": "fp32", **changes}


def check(outcome) -> dict:
    """The result reloads and matches; every promised file is there."""
    for file in ("model.safetensors", "plan.json", "model.pt2"):
        assert (outcome.directory / "compressed" / file).exists()
    for budget in outcome.summary["budgets"]:
        assert outcome.solution.costs[budget["metric"]] <= budget["limit"]
    description = json.loads((outcome.directory / "compressed" / "plan.json").read_text())
    images = torch.randn(2, *description["input"])
    again = triaxis.load(outcome.directory / "compressed", allow_code=True)
    with torch.inference_mode():
        assert torch.allclose(again(images), outcome.model.cpu()(images), atol=1e-4)
    return outcome.summary


def test_an_image_folder_with_a_zoo_model(photos, tmp_path):
    pytest.importorskip("onnxruntime")
    plain = in_small("image_folder.yaml", data={"source": f"imagefolder:{photos}", "side_px": 32, "skip_bad": True})
    plain["model"]["weights"] = None  # there is no network in a test
    outcome = run(config_from_plain(plain), tmp_path / "run")
    check(outcome)
    assert (tmp_path / "run" / "compressed" / "model.onnx").exists()


def test_a_class_and_data_of_your_own(tmp_path, monkeypatch):
    package = tmp_path / "mymodels"
    package.mkdir()
    for name, text in MODULES.items():
        (package / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = in_small("own_model.yaml")
    from importlib import import_module

    from safetensors.torch import save_file

    save_file(import_module("mymodels.nets").small_cnn(3).state_dict(), tmp_path / plain["model"]["weights"])
    openings = []

    def watched(sealed):
        # The plan is stored and the weights are final before anybody looks at the test split.
        with open_store(tmp_path / "run" / "store.sqlite", read_only=True) as store:
            openings.append(store.record("plan") is not None and store.record("verification") is None)
        return opened(sealed)

    opened = Sealed.open
    monkeypatch.setattr(Sealed, "open", watched)
    summary = check(run(config_from_plain(plain), tmp_path / "run"))
    assert openings == [True]
    assert run(config_from_plain(plain), tmp_path / "run").summary["compressed"] == summary["compressed"]
    assert openings == [True]
    assert summary["budget"]["metric"] == "params"
    assert summary["collection_cost_ratio"] is None  # the base model was not trained here


def test_a_latency_budget(photos, tmp_path):
    plain = in_small("latency.yaml", data={"source": f"imagefolder:{photos}", "side_px": 16})
    plain["model"], plain["budget"] = {"name": "cifar:resnet14"}, ["latency=90%", "macs=90%"]
    plain["profile"]["runtime"] = "eager"  # each ONNX file takes a second or two to write, and sixty cuts are timed
    summary = check(run(config_from_plain(plain), tmp_path / "run"))
    assert {b["metric"] for b in summary["budgets"]} == {"latency_ms", "macs"}
    assert summary["solution"]["binding"] in ("latency_ms", "macs")


def test_a_vision_transformer_on_the_digits(tmp_path):
    plain = in_small("vit.yaml", export={"formats": ["safetensors", "pt2"]})
    plain["data"]["max_train_images"] = 64
    plain["model"]["args"].update(embed_dim=32, depth=3)
    optimizer = {"optimizer": "adamw", "crop_px": 1, "flip": False}
    plain["collect"] = {**plain["collect"], "recipe": {**SMALL, **optimizer}, "min_resolution": 0.75, "min_width": 0.5}
    plain["budget"] = "macs=60%"
    summary = check(run(config_from_plain(plain), tmp_path / "run"))
    assert summary["compressed"]["macs"] <= 0.6 * summary["base"]["macs"]


def test_detection_of_digits_in_scenes(tmp_path):
    pytest.importorskip("pycocotools")
    plain = in_small("detection.yaml", export={"formats": ["safetensors"]})
    plain["data"].update(max_train_images=64, val_fraction=0.02, test_fraction=0.02)
    still = {"optimizer": "adamw", "peak_lr": 0.003, "crop_px": 0, "flip": False}
    plain["collect"] = {**plain["collect"], "recipe": {**SMALL, **still}, "min_resolution": 0.75}
    outcome = run(config_from_plain(plain), tmp_path / "run")
    assert outcome.summary["compressed"]["macs"] <= 0.5 * outcome.summary["base"]["macs"]
    again = triaxis.load(outcome.directory / "compressed")
    images = torch.randn(2, 3, outcome.solution.side_px, outcome.solution.side_px)
    with torch.inference_mode():
        assert all(torch.allclose(part, outcome.model.cpu()(images)[name], atol=1e-4) for name, part in again(images).items())


def test_segmentation_of_scenes_that_are_made(tmp_path):
    plain = in_small("segmentation.yaml", data={"source": "digit_scenes", "side_px": 16, "max_train_images": 64, "test_fraction": 0.05})
    plain["model"]["args"] = {"width": 4, "levels": 2}
    summary = check(run(config_from_plain(plain), tmp_path / "run"))
    assert summary["score"] == "mean IoU" and summary["compressed"]["macs"] <= 0.5 * summary["base"]["macs"]


@pytest.fixture
def _one_epoch():
    """The defaults that the programs leave open, with one epoch each."""
    before = [(recipe, recipe.epochs) for recipe in (COLLECT_RECIPE, FINETUNE_RECIPE)]
    for recipe, _ in before:
        object.__setattr__(recipe, "epochs", 1)
    yield
    for recipe, epochs in before:
        object.__setattr__(recipe, "epochs", epochs)


def programs() -> list[str]:
    readme = (EXAMPLES.parent / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    return [block, (EXAMPLES / "library.py").read_text()]


@pytest.mark.parametrize("text", programs(), ids=["README", "library.py"])
@pytest.mark.usefixtures("_one_epoch")
def test_the_programs_run_as_written(text, capsys):
    exec(compile(text, "program", "exec"), {"__name__": "__main__"})
    assert "report.html" in capsys.readouterr().out


def test_another_budget_is_answered_from_the_same_trials(tmp_path):
    labels = torch.arange(96) % 3
    data = TensorDataset(torch.randn(96, 1, 16, 16) + labels.view(-1, 1, 1, 1), labels)
    small = {"collect": {"recipe": SMALL, "num_trials": 4, "block_images": 16, "calibrate_images": 32}, "finetune": SMALL}
    config = config_from_plain({**small, "precision": "fp32", "threads": 1, "profile": {"batches": [1], "repeats": 5}})
    model = resnet(14, width=0.5, in_channels=1, num_classes=3).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fractions, trials = [], []
    for budget in ("macs=70%", "macs=15%"):
        result = triaxis.compress(model, (data, data, data), budget=budget, out=tmp_path / "run", config=config)
        fractions.append(result.summary["compressed"]["macs"] / result.summary["base"]["macs"])
        with RunDirectory(tmp_path / "run").read() as store:
            trials.append(store.trials())
    assert fractions[0] <= 0.7 and fractions[1] <= 0.15
    assert trials[0] == trials[1]
    # Other weights or other images are not taken for those that the trials were measured with.
    for other, images in ((resnet(14, width=0.5, in_channels=1, num_classes=3), data), (model, Subset(data, range(80)))):
        with pytest.raises(ExperimentMismatchError, match="choose another directory"):
            triaxis.compress(other, (images, data, data), budget="macs=15%", out=tmp_path / "run", config=config)
    # What was handed over stays as it was.
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
