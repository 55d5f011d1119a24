from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.cli.inspection import parse_keep
from triaxis.cli.start import look_at_folder, starting_config
from triaxis.config import Config, config_from_plain, load_config
from triaxis.errors import ConfigError, DataError
from triaxis.values import KeepRatios


def fill(folder: Path, num: int, size: tuple[int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(num):
        Image.new("RGB", size, (i, 0, 0)).save(folder / f"{i}.png")


def config_of(text: str) -> Config:
    return config_from_plain(yaml.safe_load(text))


def test_a_look_at_a_plain_folder(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 3, (40, 48))
    fill(tmp_path / "dog", 2, (64, 30))
    (tmp_path / "dog" / "broken.jpg").write_bytes(b"not an image")
    (tmp_path / "dog" / "notes.txt").write_text("no image at all")
    facts = look_at_folder(tmp_path)
    assert (facts.num_images, facts.class_names, facts.side_px) == (6, ("cat", "dog"), 40)
    assert not facts.has_val and not facts.has_test
    assert "6 images of 2 classes, about 40 px" in str(facts)


def test_a_look_at_a_folder_with_splits(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 2, (8, 8))
    fill(tmp_path / "train" / "b", 1, (8, 8))
    fill(tmp_path / "test" / "a", 1, (8, 8))
    facts = look_at_folder(tmp_path)
    assert (facts.num_images, facts.class_names, facts.has_val, facts.has_test) == (4, ("a", "b"), False, True)


def test_images_to_train_on_are_those_of_train_without_what_is_drawn_from_them(tmp_path: Path) -> None:
    for label in ("a", "b"):
        fill(tmp_path / "train" / label, 10, (8, 8))
    assert look_at_folder(tmp_path).num_train == 14
    for split in ("test", "validation"):
        fill(tmp_path / split / "a", 20, (8, 8))
    assert look_at_folder(tmp_path).num_train == 20


def test_init_tells_the_classes_it_found(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / "photos" / label, 2, (8, 8))
    done = CliRunner().invoke(app, ["init", "--data", f"imagefolder:{tmp_path / 'photos'}", "--file", str(tmp_path / "run.yaml")])
    assert done.exit_code == 0 and "2 classes: cat, dog" in done.stderr


def test_what_is_no_image_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        look_at_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no image"):
        look_at_folder(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match="can be read"):
        look_at_folder(tmp_path)


def test_the_written_configuration_is_complete_and_fits_the_images(tmp_path: Path) -> None:
    fill(tmp_path / "images" / "a", 20, (28, 28))
    fill(tmp_path / "images" / "b", 20, (28, 28))
    text = starting_config("timm:resnet18", f"imagefolder:{tmp_path / 'images'}", "macs=40%")
    (tmp_path / "run.yaml").write_text(text)
    config = load_config(tmp_path / "run.yaml")
    assert (config.model.name, config.model.num_classes, config.data.side_px) == ("timm:resnet18", 2, 28)
    assert config.budget == ("macs=40%",)
    assert config.base.batch_size == config.finetune.batch_size == config.collect.recipe.batch_size == 8
    for remark in ("40 images of 2 classes", "own side", "there is no val folder", "there is no test folder", "about 28 images"):
        assert remark in text


def test_the_weights_are_written() -> None:
    assert "weights: trained.pth" in starting_config("timm:resnet18", "digits", "macs=50%", "trained.pth")
    assert "weights: null" in starting_config("timm:resnet18", "digits", "macs=50%")


def test_pretrained_weights_are_trained_on_gently() -> None:
    pretrained = config_of(starting_config("timm:resnet18", "digits", "macs=50%", "pretrained"))
    from_scratch = config_of(starting_config("timm:resnet18", "digits", "macs=50%"))
    assert (pretrained.base.epochs, pretrained.base.peak_lr) == (5, 0.01)
    assert (from_scratch.base.epochs, from_scratch.base.peak_lr) == (30, 0.1)
    assert pretrained.finetune == from_scratch.finetune


def test_the_modules_to_hold_are_written() -> None:
    text = starting_config("timm:resnet18", "digits", "macs=50%", None, ["layer1", "*.downsample"], ["layer4.*"])
    assert "protect: [layer1, '*.downsample']" in text and "prune_only: [layer4.*]" in text


def test_a_wrong_choice_is_named_before_anything_is_written() -> None:
    with pytest.raises(ConfigError, match=r"model\.name"):
        starting_config("resnet18", "digits", "macs=50%")
    with pytest.raises(ConfigError, match="budget"):
        starting_config("timm:resnet18", "digits", "macs=500%")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("depth=0.7,width=0.8,resolution=0.75", KeepRatios(depth=0.7, width=0.8, resolution=0.75)),
        (" width = 0.5", KeepRatios(width=0.5)),
    ],
)
def test_keep_is_read(text: str | None, expected: KeepRatios | None) -> None:
    assert parse_keep(text) == expected


@pytest.mark.parametrize("text", ["", "depth", "depth=", "depth=x", "height=0.5", "depth=0", "depth=1.5", "depth=0.5,,"])
def test_keep_that_is_wrong_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_keep(text)


def test_the_command_that_follows_can_be_pasted(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from triaxis.cli import app

    file = tmp_path / "my config.yaml"
    done = CliRunner().invoke(app, ["init", "--model", "cifar:resnet8", "--data", "digits", "--file", str(file)])
    assert done.exit_code == 0, done.output
    assert f"triaxis run '{file}'" in done.output


def test_masks_are_looked_at_and_get_their_task_and_a_network_for_it(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "streets" / folder).mkdir(parents=True)
        for i in range(40):
            Image.new("RGB" if folder == "images" else "L", (40, 30), i % 3).save(tmp_path / "streets" / folder / f"{i}.png")
    text = starting_config("cifar:resnet20", f"masks:{tmp_path / 'streets'}", "macs=50%")
    assert "looked at: 40 pictures with masks, about 30 px" in text and "there is no test folder" in text
    (tmp_path / "triaxis.yaml").write_text(text)
    config = load_config(tmp_path / "triaxis.yaml")
    assert (config.task, config.model.name, config.data.side_px) == ("segmentation", "unet:basic", 30)
    assert config.base.batch_size < 40 and "task: segmentation" in starting_config("unet:resnet18", "digit_scenes", "macs=50%")
