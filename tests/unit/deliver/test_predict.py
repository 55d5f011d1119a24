"""Predict and export from pixels: pictures go through what the training's images went through, or it is said why they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from triaxis.cli import app
from triaxis.config import config_from_plain
from triaxis.data.datasets import from_datasets
from triaxis.data.images import Preprocess
from triaxis.deliver.bundle import export, export_run
from triaxis.deliver.predict import predict_files
from triaxis.errors import ConfigError, DataError
from triaxis.models.zoos import ModelSource, build
from triaxis.store.directory import RunDirectory
from triaxis.values import PrunePlan


def delivered(directory: Path, preprocess: Preprocess, in_channels: int = 3, task: str = "classification"):
    """An uncut network of random weights, as a run hands it over; returned too."""
    torch.manual_seed(0)
    args = {"in_channels": in_channels}
    model = build("cifar:resnet8", args, 3).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
    source = ModelSource(name="cifar:resnet8", args=args, num_classes=3, side_px=8, in_channels=in_channels)
    plan = PrunePlan(num_blocks=3, num_channels=1, base_side_px=8, side_px=8)
    export(directory, model, plan, source, preprocess, ("safetensors",), ("a", "b", "c"), task)
    return model


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def function_made(mean=None, std=None) -> Preprocess:
    """What a run knows of data sets that hold normalised floats."""
    data = [(torch.zeros(3, 8, 8), i) for i in range(3)]
    return from_datasets(data, data, data, mean=mean, std=std).train.preprocess


def test_a_picture_is_normalised_as_the_images_of_a_function_were(tmp_path, picture):
    mean, std = (0.2, 0.5, 0.7), (0.1, 0.2, 0.3)
    model = delivered(tmp_path / "compressed", function_made(mean, std))
    pixels = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None] / 255
    expected = model((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).softmax(1)[0]
    found = dict(predict_files(tmp_path / "compressed", [picture])[str(picture)])
    assert [found[name] for name in "abc"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert not torch.allclose(expected, model(pixels).softmax(1)[0], atol=1e-2)


def test_where_nobody_said_how_images_were_normalised_predict_and_export_say_what_to_set(tmp_path, picture):
    run = RunDirectory(tmp_path / "run")
    with run.open(config_from_plain({"model": {"name": "cifar:resnet8", "args": {"in_channels": 3}}})):
        pass
    delivered(run.compressed, function_made())
    for attempt in (lambda: predict_files(run.compressed, [picture]), lambda: export_run(run.path, "pt2", with_preprocessing=True)):
        with pytest.raises(ConfigError, match=r"set data\.mean and data\.std .* before the run, or write them .*plan\.json"):
            attempt()
    # What the sentence advises works.
    plan = run.compressed / "plan.json"
    plain = json.loads(plan.read_text())
    plain["preprocess"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    plan.write_text(json.dumps(plain))
    assert len(predict_files(run.compressed, [picture])[str(picture)]) == 3
    export_run(run.path, "pt2", with_preprocessing=True)


def test_a_grey_network_is_given_grey_pictures(tmp_path, picture):
    model = delivered(tmp_path / "compressed", Preprocess(mean=(0.5,), std=(0.25,)), in_channels=1)
    grey = torch.from_numpy(np.array(Image.open(picture).convert("L")))[None, None] / 255
    expected = model((grey - 0.5) / 0.25).softmax(1)[0]
    found = dict(predict_files(tmp_path / "compressed", [picture])[str(picture)])
    assert [found[name] for name in "abc"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_labels_of_a_multi_label_network_have_chances_of_their_own(tmp_path, picture):
    model = delivered(tmp_path / "compressed", Preprocess(), task="multi_label")
    pixels = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None] / 255
    found = dict(predict_files(tmp_path / "compressed", [picture])[str(picture)])
    assert [found[name] for name in "abc"] == pytest.approx(model((pixels - 0.5) / 0.25).sigmoid()[0].tolist(), abs=1e-4)


@pytest.mark.parametrize("task", ["regression", "os:system"])
def test_a_network_without_classes_is_refused_and_no_code_is_imported(tmp_path, picture, task):
    delivered(tmp_path / "compressed", Preprocess(), task=task)
    with pytest.raises(ConfigError, match=f"trained for the task {task}, whose outputs are no classes"):
        predict_files(tmp_path / "compressed", [picture])


def test_a_network_of_other_channels_is_refused(tmp_path, picture):
    delivered(tmp_path / "compressed", Preprocess(mean=(0.5,) * 4, std=(0.5,) * 4), in_channels=4)
    with pytest.raises(ConfigError, match=r"1 or 3 channels, but the model in .* takes 4"):
        predict_files(tmp_path / "compressed", [picture])


def test_a_bad_picture_is_named_without_advice_that_does_not_apply(tmp_path, picture):
    delivered(tmp_path / "compressed", Preprocess())
    picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"repair them, or leave them out:\n.*a\.png") as caught:
        predict_files(tmp_path / "compressed", [picture])
    assert "skip_bad" not in str(caught.value)


def test_the_command_line_has_it_too(tmp_path, picture):
    from typer.testing import CliRunner

    delivered(tmp_path / "compressed", function_made())
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "compressed"), str(picture)])
    assert done.exit_code == ConfigError.exit_code and "data.mean" in done.stderr
