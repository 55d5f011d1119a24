"""A model goes to the hub and comes back the same; the hub is a folder here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import triaxis
from triaxis.cli import app
from triaxis.config import config_from_plain
from triaxis.deliver.hub import model_card
from triaxis.deliver.plan_file import read_description
from triaxis.errors import ConfigError, MissingDependencyError
from triaxis.store.directory import RunDirectory
from triaxis.store.files import read_json

huggingface_hub = pytest.importorskip("huggingface_hub")
RUN = Path(__file__).parents[2] / "golden" / "runs" / "v0.1"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the hub: a folder for each repository, and one for each that is private."""
    root = tmp_path / "hub"

    class Api:
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
            (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            if private:
                (root / repo_id / ".private").touch()

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> str:
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
            return f"{repo_id}: {commit_message}"

    def snapshot_download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if not (root / repo).is_dir() or revision not in (None, "v1"):
            raise huggingface_hub.errors.HFValidationError(f"{repo} at {revision} is not there\nand more lines")
        fetched = tmp_path / "fetched" / repo
        fetched.mkdir(parents=True)
        for name in allow_patterns:
            shutil.copy(root / repo / name, fetched)
        return str(fetched)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return root


def test_what_was_sent_is_loaded_and_gives_the_same_logits(hub: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(RUN, tmp_path / "run"))
    (run / "compressed" / "model.pt2").touch()
    (run / "compressed" / "model.onnx").touch()
    done = CliRunner().invoke(app, ["push", str(run), "team/small", "--license", "mit", "--private"])
    assert done.exit_code == 0, done.output
    sent = {path.name for path in (hub / "team" / "small").iterdir()}
    assert sent == {"plan.json", "model.safetensors", "model.onnx", "README.md", ".private"}, "nothing that could run code"
    images = torch.randn(2, *read_description(run / "compressed")["input"])
    with torch.inference_mode():
        assert torch.equal(triaxis.load("hub:team/small@v1")(images), triaxis.load(run / "compressed")(images))


def card(**changes: Any) -> str:
    run = RunDirectory(RUN)
    config = config_from_plain({**run.config().model_dump(), **changes})
    return model_card(config, read_description(run.compressed), read_json(run.summary_file), "team/small", "mit")


def test_the_card_says_what_was_measured() -> None:
    text = card()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "mit" and front["library_name"] == "triaxis"
    for words in ("`cifar:resnet14`", "| test accuracy | 95.93 % | 91.11 % |", "| MACs | 109,472 | 36,816 |", "macs=40%", "`digits`"):
        assert words in text
    assert "latency at batch 64 | 6.66 ms | 1.15 ms" in text and "AMD EPYC" in text
    assert 'triaxis.load("hub:team/small")' in text


def test_the_card_names_no_directory_of_the_author() -> None:
    text = card(data={"source": "imagefolder:/home/somebody/secret/photos"})
    assert "photos" in text and "somebody" not in text and "secret" not in text


@pytest.mark.parametrize("name", ["hub:small", "hub:a/b/c", "hub:", "hub:../small", "hub:team/small@"])
def test_a_wrong_name_is_refused_before_anything_is_fetched(hub: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="ORGANISATION/NAME"):
        triaxis.load(name)


def test_a_refusal_of_the_hub_is_one_sentence(hub: Path) -> None:
    with pytest.raises(ConfigError, match=r"^hub:team/none must be a model that you may read, got: team/none at None is not there\.$"):
        triaxis.load("hub:team/none")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"triaxis\[hub\]"):
        triaxis.push_to_hub(RUN, "team/small")


def test_a_run_without_a_model_is_refused(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plan\.json"):
        triaxis.push_to_hub(tmp_path, "team/small")
    assert not hub.exists()
