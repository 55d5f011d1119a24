from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from triaxis.config import load_config
from triaxis.config.text import commented_yaml, config_reference

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_valid_configuration_that_says_how_to_run_it(path: Path) -> None:
    load_config(path)
    assert f"triaxis run examples/{path.name}" in path.read_text()


def test_the_commented_text_reads_back_to_the_same_configuration(tmp_path: Path) -> None:
    for example in (ROOT / "examples").glob("*.yaml"):
        config = load_config(example)
        (tmp_path / "out.yaml").write_text(commented_yaml(config, {"model.args": "a remark", "budget": "another"}))
        assert load_config(tmp_path / "out.yaml") == config
        assert "# a remark\n" in (tmp_path / "out.yaml").read_text()


def test_the_page_of_commands_is_what_the_code_says() -> None:
    words = ["typer", "triaxis.cli", "utils", "docs", "--name", "triaxis", "--title", "Commands"]
    made = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=True, timeout=120)
    assert (ROOT / "docs" / "commands.md").read_text() == made.stdout, f"python -m {' '.join(words)} > docs/commands.md"


def test_the_reference_page_is_what_the_code_says() -> None:
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text() == config_reference(), "python -m triaxis.config.text > docs/configuration.md"
