"""A compressed folder that came from elsewhere: what it may ask for, and what is refused before it is built."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

import triaxis
from triaxis.deliver.inspect import inspect_model
from triaxis.errors import ConfigError, PlanError
from triaxis.models.bounded import Limits, bounded
from triaxis.models.zoos import build
from triaxis.values import ChannelCut, KeepRatios, PrunePlan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inspect_model("cifar:resnet8", args={"width": 0.5}, side_px=8, keep=KeepRatios(width=0.5), save=tmp_path / "compressed")
    return tmp_path / "compressed"


def change(folder: Path, section: str, **fields: object) -> None:
    plain = json.loads((folder / "plan.json").read_text())
    plain[section] |= fields
    (folder / "plan.json").write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("section", "fields", "words"),
    [
        ("plan", {"num_blocks": -1}, "num_blocks|count all blocks"),
        ("plan", {"num_blocks": 1e18}, "plan.num_blocks must be a valid integer"),
        ("plan", {"num_blocks": 10**18}, "no more blocks"),
        ("plan", {"num_channels": 10**18}, "no more blocks and channels"),
        ("plan", {"num_channels": 1}, "count all blocks and channels"),
        ("plan", {"base_side_px": 16}, "plan.base_side_px must be source.side_px"),
        ("plan", {"channels": [{"group": "conv1", "num_channels": 8}]}, "plan.channels.0.kept must be there"),
        ("plan", {"channels": "all"}, "plan.channels must be"),
        ("source", {"name": "cifar:resnet99999998"}, "depth must be at most 2000"),
        ("source", {"name": "cifar:resnet1994"}, "more than 10000 parts"),
        ("source", {"name": "cifar:densenet40", "args": {"growth": 1000, "width": 100.0}}, "more than 1e"),
        ("source", {"name": "timm:resnet18", "args": {"layers": [900000, 2, 2, 2]}}, "more than 1"),
        ("source", {"num_classes": 10**12}, "more than 1e"),
        ("source", {"name": "timm:resnet999"}, "did you mean"),
        ("source", {"name": "timm:hf-hub:somebody/resnet18"}, "source.name must be"),
        ("source", {"name": "timm:local-dir/resnet18"}, "timm must have a model of that name"),
        ("source", {"name": "timm:resnet18", "args": {"pretrained": True}}, "must not hold pretrained"),
        ("source", {"name": "timm:resnet18", "args": {"pretrained_cfg_overlay": {"file": "x"}}}, "must not hold pretrained_cfg_overlay"),
        ("source", {"name": "timm:resnet18", "args": {"cache_dir": "x"}}, "must not hold cache_dir"),
        ("source", {"name": "timm:resnet18", "args": {"act_layer": "/etc/passwd"}}, "no path or address"),
        ("source", {"side_px": 10**6}, "at most 67108864 numbers"),
        ("source", {"protect": "stages"}, "source.protect must be"),
        ("source", {"protect": ["layer1"]}, "source: protect must name modules of the model, but 'layer1' matches none"),
        ("source", {"prune_only": ["stages.1", ""]}, "source.prune_only must be at most 1000 paths"),
        ("source", {"protect": ["s" * 501]}, "source.protect must be at most 1000 paths"),
        ("source", {"prune_only": ["*"] * 1001}, "source.prune_only must be at most 1000 paths"),
        ("source", {"example_input": "os.system"}, "source.example_input must be package.module:function"),
        ("preprocess", {"std": [0.0, 0.0, 0.0]}, "deviation above 0"),
    ],
)
def test_what_no_run_writes_is_a_plan_error_before_it_costs_anything(folder, section, fields, words):
    change(folder, section, **fields)
    start = time.process_time()
    with pytest.raises(PlanError, match=words):
        triaxis.load(folder)
    assert time.process_time() - start < 30


def test_a_file_that_an_argument_names_is_not_opened(folder, monkeypatch):
    (folder / "weights").write_bytes(b"")
    opened = []
    monkeypatch.setattr("timm.models._factory.load_checkpoint", lambda *a, **k: opened.append(a))
    change(folder, "source", name="timm:resnet18", args={"checkpoint_path": str(folder / "weights")})
    with pytest.raises(PlanError, match="must not hold checkpoint_path"):
        triaxis.load(folder)
    assert not opened


def test_a_large_image_is_refused_where_its_tensors_would_not_fit(folder, monkeypatch):
    monkeypatch.setattr("triaxis.deliver.plan_file._free_elements", lambda: 10_000_000)
    for section, fields in (("source", {"side_px": 1024}), ("plan", {"base_side_px": 1024})):
        change(folder, section, **fields)
    with pytest.raises(PlanError, match="one image of 1024 px"):
        triaxis.load(folder)


def test_what_is_no_json_is_a_plan_error_and_an_empty_folder_a_config_error(folder, tmp_path):
    for text in ("{", "[" * 100_000, '{"plan": ' + "9" * 5000 + "}", "", "null", "\xff"):
        (folder / "plan.json").write_text(text, encoding="latin-1")
        with pytest.raises(PlanError, match=r"plan\.json"):
            triaxis.load(folder)
    with pytest.raises(ConfigError, match=r"must be a folder with plan\.json"):
        triaxis.load(tmp_path)


def test_limits_count_before_memory_is_asked_for_and_change_no_number():
    with pytest.raises(PlanError, match="it must not take"), bounded(Limits(10_000, 100, "it")):
        torch.empty(1 << 50)
    torch.manual_seed(3)
    free = build("timm:mobilenetv3_small_050", {}, 5)
    torch.manual_seed(3)
    with bounded(Limits(10_000_000, 10_000, "it")):
        within = build("timm:mobilenetv3_small_050", {}, 5)
    assert all(torch.equal(a, b) for a, b in zip(free.state_dict().values(), within.state_dict().values(), strict=True))


def test_a_plan_names_each_part_once():
    cut = ChannelCut(group="a", num_channels=4, kept=(0, 1))
    counts = {"num_blocks": 4, "base_side_px": 8, "side_px": 8}
    with pytest.raises(ConfigError, match="once"):
        PrunePlan(**counts, num_channels=8, channels=(cut, cut))
    with pytest.raises(ConfigError, match="once"):
        PrunePlan(**counts, num_channels=8, removed_blocks=("b", "b"))
    with pytest.raises(ConfigError, match="8 channels or more"):
        PrunePlan(**counts, num_channels=7, channels=(cut, ChannelCut(group="b", num_channels=4, kept=(0,))))
