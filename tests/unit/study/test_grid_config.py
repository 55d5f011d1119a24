"""Which networks a grid holds, and what its configuration refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from triaxis.errors import ConfigError
from triaxis.study.grid_config import GridConfig, effort, grid_diff, load_grid_config
from triaxis.study.grid_networks import NetworkResult, NetworkSpec, blocks_per_stage
from triaxis.values import KeepRatios, Recipe

EXAMPLES = Path(__file__).parents[3] / "examples" / "study"
SMALL = {"depths": (8, 14, 20), "widths": (0.6, 0.8, 1.0), "sides_px": (16, 24, 32)}


def load(tmp_path: Path, text: str) -> GridConfig:
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    return load_grid_config(file)


@pytest.mark.parametrize(("cells", "num"), [(("a", "b", "c"), 19), (("a",), 9), (("a", "c"), 15), (("cube",), 27), (("cube", "a"), 27)])
def test_planes_share_their_crossings(cells: tuple[str, ...], num: int) -> None:
    places = GridConfig(**SMALL, cells=cells).places()  # type: ignore[arg-type]
    assert len(places) == len(set(places)) == num


def test_the_default_is_the_paper_s_table() -> None:
    config = GridConfig()
    assert len(config.places()) == 5 * 5 * 3 - 3 * 5 + 1
    assert config.centre == (32, 1.0, 32)
    assert GridConfig(family="densenet", depths=(16, 28, 40, 52, 64)).centre == (40, 1.0, 32)


def test_the_most_expensive_networks_come_first() -> None:
    efforts = [effort(place) for place in GridConfig(**SMALL).places()]
    assert efforts == sorted(efforts, reverse=True) and efforts[0] == 20 * 1.0 * 32**2


def test_keep_ratios_count_blocks_not_layers() -> None:
    config = GridConfig(**SMALL)
    assert config.ratios(config.largest) == KeepRatios()
    assert config.ratios((8, 0.6, 16)) == KeepRatios(depth=1 / 3, width=0.6, resolution=0.5)


@pytest.mark.parametrize(("family", "layers", "blocks"), [("resnet", 8, 1), ("resnet", 56, 9), ("densenet", 16, 4), ("densenet", 40, 12)])
def test_blocks_per_stage(family: str, layers: int, blocks: int) -> None:
    assert blocks_per_stage(family, layers) == blocks  # type: ignore[arg-type]


def test_networks_are_the_same_whatever_grid_asks_for_them() -> None:
    wide, narrow = GridConfig(**SMALL, cells=("cube",), seeds=(0, 1)), GridConfig(**SMALL, cells=("a",), seeds=(1,), workers=3)
    ids = [spec.network_id for spec in wide.networks("data")]
    assert len(set(ids)) == 54
    assert {spec.network_id for spec in narrow.networks("data")} < set(ids)
    assert not {spec.network_id for spec in wide.networks("other data")} & set(ids)


def test_values_come_back_from_json() -> None:
    spec = NetworkSpec(family="resnet", layers=8, width=0.6, side_px=16, seed=3, recipe=Recipe(epochs=2), data_digest="abc")
    result = NetworkResult(spec=spec, state="done", accuracy=0.5, macs=10, num_images=7)
    assert NetworkResult.from_json(result.to_json()) == result
    assert result.train_flops == 2 * 3 * 10 * 7
    with pytest.raises(ConfigError, match="must have an accuracy"):
        NetworkResult(spec=spec, state="done")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("grid*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_grid_and_says_how_to_run_it(path: Path) -> None:
    assert load_grid_config(path).places()
    assert f"triaxis study grid examples/study/{path.name}" in path.read_text()


def test_a_configuration_comes_back_from_its_yaml(tmp_path: Path) -> None:
    config = load(tmp_path, "cells: cube\nrecipe: {epochs: 3}\nreference: {layers: 20, width: 0.8, side_px: 24}\n")
    assert config.cells == ("cube",) and config.centre == (20, 0.8, 24) and config.recipe.batch_size == 128
    assert load(tmp_path, config.to_yaml()) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depths: [9]", "6n\\+2 layers, got 9: the nearest are 8 and 14"),
        ("family: densenet\ndepths: [8, 16]", "3n\\+4 layers, got 8"),
        ("seeds: [1, 1]", "seeds must hold each value once"),
        ("reference: {layers: 20, width: 1.0, side_px: 31}", "reference must be a network of the grid, got 20 layers, width 1, 31 px"),
        ("cells: [a, d]", r"cells.1 must be 'a', 'b', 'c' or 'cube', got 'd'"),
        ("recipe: {epochz: 3}", "recipe.epochz is not a setting of a grid; did you mean recipe.epochs?"),
        ("recipe: {epochs: -1}", "epochs must be 0 or more, got -1"),
        ("- depths", "must hold a mapping"),
        ("a: [", "must be a readable YAML file"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, text)


def test_only_what_decides_the_numbers_counts_as_a_difference() -> None:
    config = GridConfig(**SMALL)
    assert grid_diff(config, GridConfig(**SMALL, workers=4, out="elsewhere")) == []
    assert grid_diff(config, GridConfig(**SMALL, seeds=(1,))) == ["seeds: [0] -> [1]"]
    other = GridConfig(**SMALL, reference={"layers": 8, "width": 1.0, "side_px": 32})  # type: ignore[arg-type]
    assert any("reference.layers: None -> 8" in line for line in grid_diff(config, other))
