"""The criterion of docs/extending.md: its contract holds, and its name in a configuration is enough to cut by it."""

from __future__ import annotations

import runpy
from pathlib import Path

from triaxis.config import load_config
from triaxis.testing.criteria import _surgeon

page = runpy.run_path(str(Path(__file__).with_name("page.py")))
# The page's own tests: pytest collects them here.
TestGeometricMedian = page["modules"]("Criterion")["test_my_criteria"].TestGeometricMedian


def test_a_configuration_can_name_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(page["examples"]("Criterion")["run.yaml"], encoding="utf-8")
    importance = load_config(tmp_path / "run.yaml").width.importance
    by_it, by_size = (_surgeon("residual").plan(width=0.5, importance=name) for name in (importance, "l2"))
    assert importance == "my_criteria:GeometricMedian" and by_it.channels and by_it != by_size
