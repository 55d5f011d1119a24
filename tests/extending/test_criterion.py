"""The criterion of docs/extending.md: its own tests pass, and its name in a configuration is enough to cut by it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from triaxis.config import load_config
from triaxis.models.cifar import resnet
from triaxis.surgery.surgeon import Surgeon


def test_its_contract_holds_and_a_configuration_can_name_it(write_examples: Callable[[str], Path]) -> None:
    folder = write_examples("Criterion")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "test_my_criteria.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr
    config = load_config("run.yaml")
    surgeon = Surgeon.examine(resnet(8), side_px=16)
    by_it = surgeon.plan(width=0.5, importance=config.width.importance)
    assert by_it.channels and by_it != surgeon.plan(width=0.5, importance="l2")
