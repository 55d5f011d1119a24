"""Time a model on an Android phone with LiteRT's (TensorFlow Lite's) benchmark_model; triaxis reads what that prints.

    python3 android.py MODEL.pt2 BATCH [--threads N] [--serial PHONE] [--convert COMMAND]

Needs `adb`, benchmark_model under /data/local/tmp on the phone, and a converter from .pt2 to .tflite: the package litert-torch,
or a command of your own, which is called as COMMAND MODEL.pt2 MODEL.tflite BATCH.

    profile:
      devices:
        phone: {command: "python3 examples/devices/android.py {model} {batch} --threads 4", format: pt2, time_limit_s: 600}
    budget: latency@phone=20ms
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = "/data/local/tmp"


def convert(model, tflite, batch):
    """Write the exported program as a LiteRT file with a fixed batch."""
    import litert_torch
    import torch

    program = torch.export.load(model)
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    images = torch.zeros(batch, *(int(size) for size in shape[1:]))
    litert_torch.convert(program.module(), (images,)).export(str(tflite))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("batch", type=int)
    parser.add_argument("--threads", default="4")
    parser.add_argument("--serial", help="which phone, where several are connected: see `adb devices`")
    parser.add_argument("--convert", help="writes the .tflite; called as COMMAND MODEL.pt2 MODEL.tflite BATCH")
    asked = parser.parse_args()
    adb = ["adb", *(["-s", asked.serial] if asked.serial else [])]
    with tempfile.TemporaryDirectory() as folder:
        tflite = Path(folder) / "model.tflite"
        if asked.convert:
            words = [*shlex.split(asked.convert), str(asked.model), str(tflite), str(asked.batch)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        else:
            convert(asked.model, tflite, asked.batch)
        remote = f"{FOLDER}/triaxis_{asked.model.parent.name}.tflite"
        subprocess.run([*adb, "push", str(tflite), remote], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        bench = f"{FOLDER}/benchmark_model --graph={remote} --num_threads={asked.threads} --num_runs=50"
        return subprocess.run([*adb, "shell", bench], check=False, stdin=subprocess.DEVNULL).returncode
    finally:
        subprocess.run([*adb, "shell", f"rm -f {remote}"], check=False, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
