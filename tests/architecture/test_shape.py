"""The shape of the code base, as docs and CONTRIBUTING.md promise it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "triaxis"
MODULES = sorted(SOURCE.rglob("*.py"))

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_imports_point_down_only() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    statements = ast.parse(text).body
    assert not statements or ast.get_docstring(ast.parse(text)), "a module starts with a sentence on what it is"
    assert len(statements) <= 3 or "from __future__ import annotations" in text


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_function_is_short(path: Path) -> None:
    long = {node.name: lines for node in functions(path) if (lines := _lines_of_code(node)) > MAX_FUNCTION_LINES}
    assert not long


def _lines_of_code(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which explains and does not have to be followed."""
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    skipped = first.end_lineno - first.lineno + 1 if is_docstring and first.end_lineno else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - skipped


def test_the_usual_function_fits_on_half_a_screen() -> None:
    lengths = sorted((node.end_lineno or node.lineno) - node.lineno + 1 for path in MODULES for node in functions(path))
    assert lengths[len(lengths) // 2] <= 17


def test_there_are_no_drawers_for_odds_and_ends() -> None:
    assert not [path for path in MODULES if path.stem in {"utils", "helpers", "misc", "common"}]
    classes = [node.name for path in MODULES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    assert not [name for name in classes if re.search(r"(Manager|Helper|Util|Utils)$", name)]


PURE = """
import sys
import {module}
heavy = {heavy!r} & set(sys.modules)
assert not heavy, heavy
"""
HEAVY = {"torch", "torchvision", "timm", "torch_pruning", "ray", "sklearn", "onnxruntime"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("triaxis", HEAVY | {"scipy", "pydantic", "typer"}),
        ("triaxis.values", HEAVY | {"numpy"}),
        ("triaxis.maths.solve", HEAVY | {"sqlite3", "rich", "pydantic", "yaml"}),
        ("triaxis.maths.fit", HEAVY | {"sqlite3", "rich", "pydantic", "yaml"}),
        ("triaxis.stages.fit", HEAVY),
        ("triaxis.stages.solve", HEAVY),
        ("triaxis.store.directory", HEAVY),
        ("triaxis.cli", HEAVY | {"scipy"}),
    ],
)
def test_what_must_start_at_once_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    subprocess.run([sys.executable, "-c", PURE.format(module=module, heavy=heavy)], check=True)


@pytest.mark.parametrize("path", sorted((SOURCE / "maths").glob("*.py")), ids=name_of)
def test_maths_has_no_log_clock_or_disk(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not imported & {"logging", "time", "datetime", "os", "pathlib", "io", "sqlite3", "torch", "random", "warnings"}


def test_ray_is_imported_in_one_file_only() -> None:
    importing = [name_of(path) for path in MODULES if re.search(r"^\s*(import ray|from ray)\b", path.read_text(), re.MULTILINE)]
    assert importing == ["execution/ray.py"]
