"""What the package imports is what it declares, and no more than that is installed with it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMES = {"pil": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "markupsafe": "jinja2", "huggingface_hub": "huggingface-hub"}
"""Where a module is called otherwise than what installs it; markupsafe is a part of jinja2."""


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0].lower() for line in requirements}  # type: ignore[index]


def imported() -> set[str]:
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    modules = {name.partition(".")[0].lower() for name in found} - {name.lower() for name in sys.stdlib_module_names}
    return {NAMES.get(name, name) for name in modules} - {"triaxis"}


def test_every_imported_package_is_declared_and_the_core_holds_nothing_else() -> None:
    core = names_of(PROJECT["dependencies"])
    extras = names_of([line for lines in PROJECT["optional-dependencies"].values() for line in lines])
    assert not core & extras, "a package is in the core or in an extra"
    assert core <= imported(), f"not imported anywhere: {core - imported()}"
    assert imported() <= core | extras, f"not declared: {imported() - core - extras}"


def test_all_that_development_needs_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    wanted = names_of([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"], *PROJECT["optional-dependencies"]["docs"]])
    assert wanted - {"triaxis"} <= pinned


LOADED = """
import sys
sys.argv = ["triaxis", "--help"]
try:
    {statement}
except SystemExit:
    pass
print(len(sys.modules), *sorted(sys.modules))
"""
SLOW = {"torch", "torchvision", "timm", "numpy", "scipy", "pydantic", "yaml", "plotly", "jinja2", "safetensors", "sqlite3"}


@pytest.mark.parametrize(
    ("statement", "most_modules"),
    [("import triaxis", 100), ("import runpy; runpy.run_module('triaxis', run_name='__main__')", 420)],
    ids=["import triaxis", "triaxis --help"],
)
def test_a_start_is_short(statement: str, most_modules: int) -> None:
    """Modules are counted and not seconds, which other programs on the machine would change."""
    text = LOADED.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    number, *names = done.stdout.splitlines()[-1].split()
    assert int(number) < most_modules
    assert not SLOW & set(names)
