"""A forecast's counts are those of the configuration, and efforts and hours are two ways to say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.config import Config, config_from_plain
from triaxis.errors import ConfigError
from triaxis.stages.plan import Forecast, Stage, forecast_run

PLAIN = {
    "threads": 1,
    "precision": "fp32",
    "model": {"name": "cifar:resnet8", "args": {"width": 0.5}},
    "data": {"source": "digits", "side_px": 8, "max_train_images": 320},
    "width": {"round_to": 2},
    "budget": "macs=25%",
    "base": {"epochs": 10, "batch_size": 32},
    "collect": {"recipe": {"epochs": 2, "batch_size": 32, "distill": 0.5}},
    "finetune": {"epochs": 3, "batch_size": 32, "distill": 0.5},
}


def stages(config: Config) -> tuple[Forecast, dict[str, Stage]]:
    found = forecast_run(config)
    return found, {stage.name: stage for stage in found.stages}


def test_a_run_by_recipes() -> None:
    found, rows = stages(config_from_plain(PLAIN))
    assert rows["base"].images == 3200 and found.share(rows["base"]) == 1.0
    assert rows["collect"].images == rows["collect"].networks * 640
    assert rows["fine-tune"].images == 960
    assert 0.06 * 3 / 10 < found.share(rows["fine-tune"]) <= 0.25 * 3 / 10
    # Trials see the same pictures, so that one look at them serves all.
    assert rows["teacher"].images == 640 + 960
    assert all(stage.seconds > 0 for stage in found.stages)


def test_an_effort_is_split_and_used_up() -> None:
    collect = {"method": "elastic", "effort": 0.1, "num_cuts": 16, "views": 2, "shared": PLAIN["collect"]["recipe"]}  # type: ignore[index]
    found, rows = stages(config_from_plain({**PLAIN, "effort": 1.0, "collect": collect}))
    assert rows["collect"].networks == 16
    # Elastic training takes whole epochs.
    assert 0.05 < found.share(rows["collect"]) <= 0.1
    assert found.share(rows["collect"]) + found.share(rows["fine-tune"]) == pytest.approx(1.0, abs=0.03)
    # Two views of the images for collecting, and fine-tuning's pictures never repeat.
    assert rows["teacher"].images == 640 + rows["fine-tune"].images


def test_hours_become_the_effort_that_fits() -> None:
    rows = (Stage("base", 1, 100, 50.0, 3600.0), Stage("collect", 9, 10, 5.0, 360.0), Stage("fine-tune", 1, 10, 20.0, 1440.0))
    found = Forecast((*rows, Stage("teacher", 0, 10, 3.0, 200.0)), 50.0)
    assert found.effort_in(1 + 2000 / 3600) == pytest.approx(0.5)
    assert found.effort_in(1 + 4000 / 3600) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="base training"):
        found.effort_in(0.9)


def test_the_command_prints_it_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(config_from_plain(PLAIN).to_yaml())
    done = CliRunner().invoke(app, ["plan", "tiny.yaml", "--json"])
    rows = {row["name"]: row for row in json.loads(done.stdout)["stages"]}
    assert rows["base"]["images"] == 3200 and rows["base"]["share_of_base_training"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
    both = CliRunner().invoke(app, ["run", "tiny.yaml", "--effort", "1", "--hours", "1"])
    assert both.exit_code == 2 and "--hours" in both.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
