"""Where harmed runs are made and compared with an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).parent
CLOCKS = ("seconds", "seconds_by_part", "collection_time_ratio", "environment", "cost_model")

CHAINS = """
threads: 1
device: cpu
precision: fp32
save_minutes: {minutes}
model: {{name: "cifar:resnet14", args: {{width: 0.5}}}}
data: {{source: digits, side_px: 8, val_fraction: 0.2, test_fraction: 0.2, max_train_images: 192}}
budget: macs=60%
width: {{round_to: 4}}
base: {{epochs: 4, batch_size: 32, crop_px: 1, flip: false}}
collect:
  recipe: {{epochs: 1, batch_size: 32, crop_px: 1, flip: false}}
  num_trials: 4
  block_images: 64
  calibrate_images: 128
{more}
finetune: {{epochs: 2, batch_size: 32, crop_px: 1, flip: false}}
profile: {{repeats: 3, batches: [1]}}
export: {{formats: [safetensors]}}
"""
ELASTIC = "  method: elastic\n  num_cuts: 8\n  shared: {epochs: 3, batch_size: 32, crop_px: 1, flip: false}"


def config_text(method: str, minutes: float) -> str:
    """Return the configuration of a run of seconds; `minutes` lie between two saved states."""
    return CHAINS.format(minutes=minutes, more=ELASTIC if method == "elastic" else "")


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code or minus the signal, what it said, and its seconds."""

    code: int
    said: str
    seconds: float


def write_pictures(folder: Path) -> Path:
    """Write some of the digits as class folders of pictures, once."""
    from PIL import Image

    from triaxis.data.digits import load_digits

    if not folder.exists():
        images, labels = load_digits()
        for number, (image, label) in enumerate(zip(images[:480] * 15, labels[:480].tolist(), strict=True)):
            place = folder / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype("uint8")).convert("RGB").save(place / f"{number:04d}.png")
    return folder


def can_harm() -> bool:
    """Whether this machine can: Linux with a C compiler."""
    return sys.platform == "linux" and shutil.which("cc") is not None


class Lab:
    """Runs command lines and harms them; a context manager.

    Args:
        folder: For what the lab itself needs.
        limit_s: A command that takes longer is killed.
    """

    def __init__(self, folder: Path, limit_s: float = 120.0) -> None:
        self.folder, self.limit_s = folder.resolve(), limit_s
        self.folder.mkdir(parents=True, exist_ok=True)
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        shim = self.folder / "shim.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(shim), str(HERE / "shim.c"), "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(shim), "COLUMNS": "160", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        words = [sys.executable, str(HERE / "server.py"), str(shim)]
        self._server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        if self._read() != "ready":
            raise RuntimeError("the process that does the jobs did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.communicate()

    def _read(self) -> str:
        assert self._server is not None and self._server.stdout is not None
        return self._server.stdout.readline().strip()

    def do(self, *words: object, out: Path, kind: str = "", at: int = 0, **more: Any) -> Ended:
        """Do one command line.

        Args:
            words: The command line.
            out: The run directory, in which operations are counted.
            kind: ``count``, ``kill`` before operation `at`, ``half``: in the middle of the write `at`, ``full`` from `at` on, or nothing.
            at: The operation, from 1.
            more: ``log``, a file for the operations; ``kill_after_s``; ``kill_worker_after_s``, for one of the process's children;
                ``prelude``, Python that the process runs first.
        """
        assert self._server is not None and self._server.stdin is not None
        said = self.folder / "said.txt"
        job = {"words": [str(word) for word in words], "below": str(out.resolve()), "kind": kind, "at": at, "said": str(said)}
        self._server.stdin.write(json.dumps({**job, "limit_s": self.limit_s, **more}, default=str) + "\n")
        self._server.stdin.flush()
        code, seconds = json.loads(self._read())
        return Ended(code, said.read_text(errors="replace"), seconds)

    def run(self, config: Path, out: Path, **harm: Any) -> Ended:
        """Do `triaxis run`."""
        return self.do("run", config, "--out", out, out=out, **harm)


def result_of(out: Path) -> dict[str, Any]:
    """Return all that must not depend on when a run was interrupted: numbers, trials, the bytes of weights; no times."""
    weights = sorted(path for path in out.rglob("*.safetensors") if not path.name.startswith("."))
    return {
        "summary": _without_clocks(json.loads((out / "summary.json").read_text())),
        "trials": [_without_clocks(json.loads(row)) for row in trials_of(out).values()],
        "weights": {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in weights},
    }


def _without_clocks(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    return {key: _without_clocks(item) for key, item in plain.items() if "latency" not in key and key not in CLOCKS}


def trials_of(out: Path) -> dict[str, str]:
    """Return the bodies of the committed trials by id, times and all: once there, a finished one must never change."""
    file = out / "store.sqlite"
    if not file.exists():
        return {}
    store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        if not store.execute("SELECT count(*) FROM sqlite_master WHERE name = 'trials'").fetchone()[0]:
            return {}
        return dict(store.execute("SELECT trial_id, body FROM trials ORDER BY place").fetchall())
    finally:
        store.close()


def leftovers(out: Path) -> list[str]:
    """Return the names of half files and of states of trainings, of which a finished run has none."""
    return sorted(path.name for path in out.rglob("*") if path.is_file() and (path.suffix == ".resume" or ".tmp" in path.name))


def lost(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the finished trials that are gone or were measured again."""
    return [key for key, body in before.items() if json.loads(body)["state"] == "done" and after.get(key) != body]
