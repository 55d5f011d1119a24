from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from triaxis.config import (
    COLLECT_RECIPE,
    Config,
    config_diff,
    config_from_plain,
    flatten,
    idle_settings,
    load_config,
    walk_keys,
)
from triaxis.errors import ConfigError
from triaxis.values import BudgetSpec, Recipe


def error_of(plain: object) -> str:
    with pytest.raises(ConfigError) as caught:
        config_from_plain(plain, source="run.yaml")
    return str(caught.value)


def test_yaml_out_and_in_gives_an_equal_configuration(tmp_path: Path) -> None:
    config = config_from_plain({"seed": 7, "budget": ["macs=30%", "latency=3ms"], "collect": {"recipe": {"epochs": 1}}})
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "run.yaml") == config
    assert yaml.safe_load(config.to_yaml()) == config.to_plain()


def test_an_empty_file_and_an_empty_section_mean_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# nothing yet\n")
    assert load_config(tmp_path / "run.yaml") == Config()
    assert config_from_plain({"collect": None}) == Config()


def test_a_recipe_takes_its_missing_keys_from_its_own_section() -> None:
    recipe = config_from_plain({"collect": {"recipe": {"epochs": 5}}}).collect.recipe
    assert recipe == dataclasses.replace(COLLECT_RECIPE, epochs=5)
    assert recipe.distill != Recipe().distill


def test_short_forms() -> None:
    config = config_from_plain({"model": "timm:resnet18", "data": "imagefolder:/tmp/my images", "budget": "params=2M"})
    assert (config.model.name, config.data.source) == ("timm:resnet18", "imagefolder:/tmp/my images")
    assert config.budgets == (BudgetSpec(metric="params", limit=2e6),)


def test_a_float_in_the_notation_that_yaml_reads_as_text_is_a_float(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("finetune: {peak_lr: 1e-3}\n")
    assert load_config(tmp_path / "run.yaml").finetune.peak_lr == 1e-3


@pytest.mark.parametrize(
    ("plain", "needles"),
    [
        ({"sead": 3}, ["sead is not a setting", "seed?"]),
        ({"collect": {"num_trial": 3}}, ["collect.num_trial is not", "collect.num_trials?"]),
        ({"collect": {"recipe": {"epoch": 3}}}, ["collect.recipe.epoch is not", "collect.recipe.epochs?"]),
        ({"collect": {"epochs": 3}}, ["collect.epochs is not", "collect.recipe.epochs or collect.shared.epochs?"]),
        ({"round_to": 4}, ["round_to is not", "width.round_to?"]),
        ({"data": {"zzzzzz": 4}}, ["data.zzzzzz is not", "val_fraction"]),
        ({"seed": "many"}, ["seed must be a valid integer", "'many'"]),
        ({"seed": 2**70}, ["seed must be less than 18446744073709551616", str(2**70)]),
        ({"data": {"seed": 2**32}}, ["data.seed must be less than or equal to 4294967293", str(2**32)]),
        ({"threads": 10000}, ["threads must be less than or equal to 1024", "10000"]),
        ({"collect": {"num_trials": 1}}, ["collect.num_trials must be greater than or equal to 4", "got 1"]),
        ({"width": {"importance": "magic"}}, ["width.importance", "known are bn, l1, l2, random, taylor", "'magic'"]),
        ({"finetune": {"epochs": "eight"}}, ["finetune.epochs must be a valid integer"]),
        ({"finetune": 3}, ["finetune must be a dictionary"]),
        ({"base": {"distill": 1.5}}, ["base", "distill must be in [0, 1]", "1.5"]),
        ({"profile": {"batches": [1, "x"]}}, ["profile.batches.1"]),
        ({"profile": {"batches": []}}, ["profile.batches", "at least 1 item"]),
        ({"model": "resnet18"}, ["model.name must be cifar:NAME", "'resnet18'"]),
        ({"data": "folder"}, ["data.source must be digits, imagefolder:PATH", "'folder'"]),
        ({"data": {"mean": [0.5, 0.5, 0.5]}}, ["mean and std must be given together"]),
        ({"data": {"mean": [124, 116, 104], "std": [58, 57, 57]}}, ["pixels in [0, 1]", "divide by 255"]),
        ({"finetune": {"randaugment": "rand-m9"}}, ["randaugment must read OPERATIONS,MAGNITUDE", "rand-m9"]),
        ({"fit": {"kind": "cubic"}}, ["fit.kind must be 'auto', 'growth' or 'polynomial', got 'cubic'"]),
        ({"data": {"val_fraction": float("nan")}}, ["data.val_fraction"]),
        ({"budget": "macs=0%"}, ["budget", "above 0 %"]),
        ({"budget": "macs=120%"}, ["budget", "at most 100 %"]),
        ({"budget": "speed=3"}, ["budget", "METRIC=AMOUNT"]),
        ({"budget": 0.5}, ["budget", "such as macs=50%", "0.5"]),
        ({"budget": []}, ["budget", "at least 1 item"]),
        ({"budget": ["macs=50%", "macs=1M"]}, ["at most one budget for each metric", "macs"]),
        ({"device": "gpu"}, ["device", "cuda", "'gpu'"]),
        ([1, 2], ["must hold a mapping", "list"]),
        ("text", ["must hold a mapping", "str"]),
    ],
)
def test_a_mistake_is_named_with_what_is_right(plain: object, needles: list[str]) -> None:
    message = error_of(plain)
    assert message.startswith("run.yaml")
    for needle in needles:
        assert needle in message


def test_all_mistakes_are_shown_at_once() -> None:
    message = error_of({"sead": 1, "seed": "x", "fit": {"rank": 0}, "collect": {"recipe": {"optimizer": "lion", "lr": 1}}})
    assert "5 wrong settings" in message
    for key in ("sead", "seed", "fit.rank", "collect.recipe.optimizer", "collect.recipe.lr"):
        assert f"\n  {key} " in message


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2\n", "seed: [1\n", "a: b: c\n", "!!python/object:os.system {}\n", "? [1, 2]\n: 3\n"])
def test_what_is_no_plain_yaml_is_a_config_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(tmp_path / "run.yaml")


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("collect:\n  num_trials: 5\n  num_trials: 6\n")
    with pytest.raises(ConfigError, match="'num_trials' is given twice"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        load_config(tmp_path / name)


def test_a_file_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ConfigError, match="readable YAML file"):
        load_config(tmp_path / "run.yaml")


def test_the_difference_names_keys_with_old_and_new() -> None:
    old, new = Config(), config_from_plain({"seed": 3, "collect": {"recipe": {"epochs": 9}}, "model": {"args": {"growth": 12}}})
    assert config_diff(old, old) == []
    assert config_diff(old, new) == ["seed: 0 -> 3", "model.args: {} -> {'growth': 12}", "collect.recipe.epochs: 4 -> 9"]


def test_a_setting_without_effect_is_said() -> None:
    assert idle_settings(Config()) == []
    config = config_from_plain(
        {"collect": {"workers": 4}, "data": {"download": True}},
    )
    assert [sentence.split()[0] for sentence in idle_settings(config)] == ["collect.workers", "data.download"]
    assert idle_settings(config_from_plain({"data": {"source": "my.data:make"}})) == []
    own = config_from_plain({"data": {"source": "my.data:make", "side_px": 64}})
    assert idle_settings(own) == ["data has no effect but for source, mean and std: the function makes the splits."]
    known = config_from_plain({"data": {"source": "my.data:make", "mean": [0.5], "std": [0.25]}})
    assert idle_settings(known) == []


def test_every_key_is_described() -> None:
    described = dict(walk_keys())
    leaves = set(flatten(Config().to_plain()))
    assert leaves <= set(described)
    assert all(described.values()), [key for key, text in described.items() if not text]


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]


@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**31),
            "budget": st.sampled_from(["macs=50%", "latency=2.5ms", ["macs=20%", "params=1M"]]),
            "finetune": st.fixed_dictionaries({}, optional={"epochs": st.integers(0, 300), "peak_lr": st.floats(1e-6, 10)}),
            "fit": st.fixed_dictionaries({}, optional={"degree": st.none() | st.integers(1, 5)}),
            "data": st.fixed_dictionaries({"source": st.just("digits")}, optional={"val_fraction": st.floats(0.01, 0.7)}),
        },
    )
)
def test_any_configuration_survives_yaml(plain: dict[str, object]) -> None:
    config = config_from_plain(plain)
    assert config_from_plain(yaml.safe_load(config.to_yaml())) == config
    assert config_diff(config, config_from_plain(config.to_plain())) == []


def test_what_an_effort_and_a_way_to_collect_make_idle_is_said() -> None:
    chosen = config_from_plain({"effort": 0.5, "finetune": {"epochs": 7}, "collect": {"method": "elastic", "recipe": {"epochs": 9}}})
    assert [sentence.split()[0] for sentence in idle_settings(chosen)] == ["finetune.epochs", "collect.recipe"]
    assert [sentence.split()[0] for sentence in idle_settings(config_from_plain({"collect": {"effort": 0.2}}))] == ["collect.effort"]
