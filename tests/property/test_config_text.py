"""Whatever a setting holds, the file that `triaxis init` writes reads back equal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from triaxis.cli.start import starting_config
from triaxis.config import Config, config_from_plain, load_config
from triaxis.config.text import commented_yaml

HARD = "#'\":- {}[],&*!|>%@`\\\t\x85\u2028\ufeffäµ雪😀~?=."
places = st.text(st.one_of(st.sampled_from(HARD), st.characters(codec="utf-8", exclude_characters="\r\n")), min_size=1, max_size=90)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=70))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=50), inner, max_size=3), max_leaves=6
)


def read_back(text: str) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path)


@given(place=places)
@example(place="/home/a person/pictures of cats # and dogs/under a roof/2024: the 'best'")
@example(place="/" + "x" * 59)
@settings(max_examples=50, deadline=None)
def test_any_place_of_data_reads_back(place: str) -> None:
    source = f"cifar10:{place}"
    assert read_back(starting_config("timm:resnet18", source, "macs=50%", place)) == config_from_plain(
        {"model": {"name": "timm:resnet18", "weights": place}, "data": source, "budget": "macs=50%"}
    )


@given(args=st.dictionaries(st.text(max_size=50), values, max_size=4), weights=st.text(min_size=1, max_size=90))
@example(args={"a": "two\n\nlines " * 9}, weights="a\nb # c")
@settings(max_examples=40, deadline=None)
def test_any_argument_of_the_model_reads_back(args: dict[str, Any], weights: str) -> None:
    config = config_from_plain({"model": {"args": args, "weights": weights}})
    assert read_back(commented_yaml(config)) == config


@pytest.mark.parametrize("length", range(15, 45))
def test_every_length_of_a_value_keeps_its_comment_apart(length: int) -> None:
    line = next(line for line in commented_yaml(config_from_plain({"model": {"weights": "w" * length}})).splitlines() if "weights:" in line)
    assert yaml.safe_load(line) == {"weights": "w" * length} and " # 'pretrained'" in line


@pytest.mark.parametrize("name", ["sixty characters and more, with a space in it, # and: so on", 'it\'s "quoted" 雪'])
def test_an_image_folder_of_any_name_reads_back(tmp_path: Path, name: str) -> None:
    for label in ("a", "b"):
        (tmp_path / name / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / label / "0.png")
    source = f"imagefolder:{tmp_path / name}"
    assert read_back(starting_config("timm:resnet18", source, "macs=40%")).data.source == source
