"""Keep what this version writes, so that every later version is tested to read it: `python scripts/release_fixture.py`.

Writes tests/golden/runs/vX.Y, a small run directory, and tests/golden/models/vX.Y, a compressed folder as it is handed over, with
the logits that it gave. What is there already is never written again.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import triaxis
from triaxis.cli import app
from triaxis.deliver.bundle import export_run
from triaxis.deliver.plan_file import read_description
from triaxis.store.directory import RunDirectory

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
NEEDLESS = ("log.txt", "events.jsonl", "report.html", ".lock")


def keep_run(place: Path) -> None:
    """Run the small configuration of the golden tests, and keep what it wrote."""
    app(["run", str(GOLDEN / "small.yaml"), "--out", str(place)], standalone_mode=False)
    for name in NEEDLESS:
        (place / name).unlink(missing_ok=True)


def keep_model(run: Path, place: Path) -> None:
    """Keep the compressed folder of a run with its `.pt2`, an input, and the logits that the network gives for it."""
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(shutil.copytree(run, Path(scratch) / "run"))
        export_run(copied, "pt2")
        shutil.copytree(RunDirectory(copied).compressed, place)
    images = torch.randn(3, *read_description(place)["input"], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = triaxis.load(place)(images)
    save_file({"images": images, "logits": logits}, place / "expected.safetensors")


def main() -> None:
    """Keep what is not kept yet."""
    version = "v" + ".".join(triaxis.__version__.split(".")[:2])
    run, model = GOLDEN / "runs" / version, GOLDEN / "models" / version
    if not run.exists():
        keep_run(run)
    if not model.exists():
        keep_model(run, model)
    print(f"{run} and {model} are kept for ever: commit them")


if __name__ == "__main__":
    main()
