"""Check a release as a user meets it: build, install into empty environments, run a small demo from the wheel.

    python scripts/release_check.py                     # all Pythons of 3.11, 3.12 and 3.13 that are found
    python scripts/release_check.py --python 3.12       # one of them
    python scripts/release_check.py --borrow            # quick: packages of this environment, triaxis alone from the wheel

Each full environment needs several GB and some minutes, and is removed when it was checked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
MUST_HOLD = ("triaxis/py.typed", "triaxis/data/digits.npz", "triaxis/study/table1.csv", "triaxis/report/page.html")
MUST_NOT_HOLD = ("tests/", "benchmarks/", "runs/")
DEMO = """
seed: 1
threads: 1
precision: fp32
model: {name: "cifar:resnet14", args: {width: 0.5}}
data: {source: digits, side_px: 8, val_fraction: 0.2, test_fraction: 0.3, max_train_images: 320}
budget: macs=50%
width: {round_to: 4}
base: {epochs: 12, batch_size: 32, crop_px: 1, flip: false}
collect:
  recipe: {epochs: 2, batch_size: 32, crop_px: 1, flip: false}
  num_trials: 6
  block_images: 64
  calibrate_images: 128
finetune: {epochs: 3, batch_size: 32, crop_px: 1, flip: false}
profile: {repeats: 5, batches: [1, 8]}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks; return the exit code."""
    options = _parser().parse_args(arguments)
    pythons = {Path(sys.executable): "this one"} if options.borrow else _pythons(options.python or VERSIONS)
    if not pythons:
        print(f"no Python of {', '.join(options.python or VERSIONS)} was found", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="triaxis-release-", dir=options.scratch) as scratch:
        tools = _tools(Path(scratch), borrow=options.borrow)
        wheel = _build(tools, ROOT / "dist", borrow=options.borrow)
        for python, version in pythons.items():
            _say(f"Python {version}: {python}")
            _check_installed(python, wheel, Path(scratch) / f"env-{version}", borrow=options.borrow)
    _say(f"all checks passed; {wheel.parent} holds what was checked")
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--python", action="append", choices=VERSIONS, help="check this version alone; may be repeated")
    made.add_argument("--borrow", action="store_true", help="use the packages of this environment instead of installing them")
    made.add_argument("--scratch", type=Path, help="where environments are made; several GB are needed")
    return made


def _pythons(wanted: Sequence[str]) -> dict[Path, str]:
    """Return interpreters by path: on the PATH, and those of pyenv."""
    found = {}
    for version in wanted:
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        on_path = shutil.which(f"python{version}")
        for python in [*kept[-1:], *([Path(on_path)] if on_path else [])]:
            if subprocess.run([python, "-c", "import ssl, sqlite3, venv"], capture_output=True, check=False).returncode == 0:
                found[python] = version
                break
        else:
            _say(f"Python {version} was not found and is not checked")
    return found


def _tools(scratch: Path, *, borrow: bool) -> Path:
    """Return a Python that has what builds and checks packages."""
    if borrow:
        return Path(sys.executable)
    _run(sys.executable, "-m", "venv", scratch / "tools")
    python = scratch / "tools" / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "build", "twine")
    return python


def _build(tools: Path, dist: Path, *, borrow: bool) -> Path:
    """Build wheel and sdist, and look at what they hold; return the wheel."""
    shutil.rmtree(dist, ignore_errors=True)
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    if borrow:
        _run(tools, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", dist, ROOT)
    else:
        _run(tools, "-m", "build", "--outdir", dist, ROOT)
        _run(tools, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    _require(all(name in names for name in MUST_HOLD), f"{wheel.name} must hold {', '.join(MUST_HOLD)}")
    _require(not [n for n in names if n.startswith(MUST_NOT_HOLD)], f"{wheel.name} must hold the package alone")
    for archive in dist.glob("*.tar.gz"):
        with tarfile.open(archive) as opened:
            held = {name.partition("/")[2] for name in opened.getnames()}
        _require({"LICENSE", "NOTICE", "README.md", "pyproject.toml"} <= held, f"{archive.name} must hold licence and README")
    _say(f"{wheel.name}: {wheel.stat().st_size / 1e3:.0f} kB")
    return wheel


def _check_installed(python: Path, wheel: Path, environment: Path, *, borrow: bool) -> None:
    """Install the wheel into an empty environment, run a small demo, and remove it again."""
    _run(python, "-m", "venv", environment)
    own = environment / "bin" / "python"
    if borrow:
        site = next(environment.glob("lib/python*/site-packages"))
        # Behind what is installed here, so that the wheel's triaxis wins over an editable one.
        (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        _run(own, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", "--ignore-installed", wheel)
    else:
        _run(own, "-m", "pip", "install", "--quiet", wheel)
        _run(own, "-m", "pip", "check")
    _check_demo(environment)
    shutil.rmtree(environment)


def _check_demo(environment: Path) -> None:
    command, place = environment / "bin" / "triaxis", environment / "demo"
    place.mkdir()
    (place / "demo.yaml").write_text(DEMO)
    where = _run(environment / "bin" / "python", "-c", "import triaxis; print(triaxis.__file__)", cwd=place).strip()
    _require(str(environment) in where, f"triaxis must come from the wheel, got {where}")
    _run(command, "doctor", "--no-measure", cwd=place)
    _run(command, "run", "demo.yaml", "--out", "runs/demo", cwd=place)
    summary = json.loads((place / "runs" / "demo" / "summary.json").read_text())
    _require(summary["compressed"]["macs"] <= 0.5 * summary["base"]["macs"], "the demo's model must fit its budget")
    _require((place / "runs" / "demo" / "report.html").stat().st_size > 10_000, "the demo must write its report")
    found = json.loads(_run(command, "solve", "runs/demo", "--budget", "macs=30%", "--json", cwd=place))
    _say(f"demo: {summary['compressed']['macs'] / summary['base']['macs']:.0%} of the MACs; at 30 %: {found['predicted_accuracy']:.1%}")


def _run(*words: object, cwd: Path | None = None) -> str:
    """Run a command that must succeed; return what it printed. A PYTHONPATH would hide the wheel."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    _require(done.returncode == 0, f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise SystemExit(f"release check failed: {sentence}")


def _say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
