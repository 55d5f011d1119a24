"""The version is said in three places, and they agree."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

import triaxis

ROOT = Path(__file__).parents[2]


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert triaxis.__version__ == project["version"] == citation["version"]
    assert citation["license"] == project["license"]


def test_the_forge_files_are_readable() -> None:
    paths = [ROOT / ".pre-commit-config.yaml", *(ROOT / ".github").rglob("*.yml")]
    assert len(paths) == 5
    assert all(yaml.safe_load(path.read_text()) for path in paths)


def test_the_workflow_tests_each_promised_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [line.rpartition(" ")[2] for line in project["classifiers"] if line.startswith("Programming Language :: Python :: 3.")]
    assert jobs["test"]["strategy"]["matrix"]["python"] == promised
    assert {"run": ".ci/run"} in jobs["test"]["steps"] and {"run": "make docs"} in jobs["docs"]["steps"]
