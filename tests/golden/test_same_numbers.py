"""The same file, seed and arithmetic give the same numbers as version 0.1 did: fp32, one thread, to the last digit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "summary_v0.1.json").read_text())
LENGTH_OF_A_DIGEST = 96

# Since then thin strided convolutions go another way through the maths library, because the old one writes beyond its memory.
AS_BEFORE = """
import runpy
from triaxis.process import convolutions
convolutions.FEWEST_CHANNELS = 0
runpy.run_module("triaxis", run_name="__main__", alter_sys=True)
"""
CLOCKS = {"latency_ms", "latency_spread_ms", "seconds", "environment"}


def same_here() -> bool:
    here = {"torch": torch.__version__.partition("+")[0], "cpu": torch.backends.cpu.get_cpu_capability()}
    return here == {key: GOLDEN[key] for key in here}


def leaves(plain: Any, path: str = "") -> dict[str, Any]:
    """Return every number of a summary by its path, without what a clock decides."""
    if not isinstance(plain, dict):
        return {path: plain}
    return {key: item for name, part in plain.items() if name not in CLOCKS for key, item in leaves(part, f"{path}.{name}").items()}


@pytest.mark.skipif(not same_here(), reason=f"the golden numbers are of torch {GOLDEN['torch']} on {GOLDEN['cpu']}")
def test_a_run_gives_the_numbers_of_version_0_1(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AS_BEFORE, "run", str(HERE / "small.yaml"), "--out", str(tmp_path / "run")]
    # One thread from the start: the linear algebra of scipy may sum in another order on more.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found, golden = leaves(json.loads((tmp_path / "run" / "summary.json").read_text())), leaves(GOLDEN["summary"])
    # The digest of a checkpoint stands in its header since then.
    sizes = {key for key in golden if key.endswith("file_bytes")}
    assert sizes and all(0 < found[key] - golden[key] <= LENGTH_OF_A_DIGEST for key in sizes)
    # Memory is interpolated between sampled cuts, by a better rule since then: the same number, but for its last digit.
    memory = ".solution.costs.memory_bytes"
    assert found[memory] == pytest.approx(golden[memory], rel=1e-12)
    same = golden.keys() - sizes - {memory}
    assert {key: found.get(key) for key in same} == {key: golden[key] for key in same}
