"""Try the result: predict image files with a compressed model, and measure it beside the base model on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triaxis.data.images import Preprocess, StreamedImages
from triaxis.data.pictures import PictureFiles, readable
from triaxis.deliver.export import is_configured, load, read_description
from triaxis.errors import ConfigError, DataError
from triaxis.metrics.latency import measure_latency
from triaxis.metrics.memory import measure_memory
from triaxis.models.load import ModelSource, build
from triaxis.store.checkpoints import load_into
from triaxis.store.directory import RunDirectory

BACKENDS = ("eager", "compile", "onnxruntime")


def predict_files(directory: Path, images: Sequence[Path], *, top: int = 5, allow_code: bool = False) -> dict[str, list[tuple[str, float]]]:
    """Return for each image file the most probable classes with their probabilities in [0, 1].

    Args:
        directory: A run's ``compressed`` folder.
        images: Image files.
        top: Classes per image.
        allow_code: As for `triaxis.load`.

    Raises:
        DataError: A file is missing or cannot be read.
        ConfigError: The folder holds no compressed model.
    """
    images = [Path(path) for path in images]
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise DataError(f"Every image must be an existing file, got {', '.join(missing)}.")
    readable(images, skip_bad=False)
    description = read_description(Path(directory))
    preprocess, side = Preprocess.from_json(description["preprocess"]), description["input"][1]
    names = description["class_names"]
    model = load(directory, allow_code=allow_code)
    files = StreamedImages(PictureFiles(images, [0] * len(images), preprocess), len(names), preprocess, side, num_workers=0)
    found = {}
    for batch in files.in_order(side):
        with torch.inference_mode():
            rows = model(batch.images).softmax(1)
        for index, row in zip(batch.indices.tolist(), rows, strict=True):
            best = row.topk(min(top, len(row)))
            found[str(images[index])] = [
                (names[i] if i < len(names) else str(i), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
    return found


def bench_run(run_dir: Path, *, batches: Sequence[int] = (1, 8, 64), backends: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure base and compressed model side by side: latency, images per second and memory, a row per backend and batch.

    Args:
        run_dir: A finished run.
        batches: Images per call.
        backends: Of ``eager``, ``compile`` and ``onnxruntime``; None takes all that are installed.

    Raises:
        ConfigError: A backend is unknown, or the run's base model was handed over in code.
    """
    if unknown := set(backends or ()) - set(BACKENDS):
        raise ConfigError(f"A backend must be one of {', '.join(BACKENDS)}, got {', '.join(sorted(unknown))}.")
    directory = RunDirectory(run_dir)
    description = read_description(directory.compressed)
    source = ModelSource.from_json(description["source"])
    if not source.name:
        raise ConfigError(f"The base model of {run_dir} was handed over in code: measure it with triaxis.metrics.latency instead.")
    compressed = load(directory.compressed, allow_code=is_configured(run_dir, source))
    base = build(source.name, source.args, source.num_classes)
    load_into(base, directory.checkpoint("base"))
    pair = {"base": (base.eval(), source.side_px), "compressed": (compressed, description["input"][1])}
    chosen = backends or [b for b in BACKENDS if b != "onnxruntime" or importlib.util.find_spec("onnxruntime")]
    return [_row(pair, source.in_channels, backend, batch) for backend in chosen for batch in batches]


def _row(pair: dict[str, tuple[nn.Module, int]], in_channels: int, backend: str, batch: int) -> dict[str, Any]:
    row: dict[str, Any] = {"backend": backend, "batch": batch}
    for name, (model, side) in pair.items():
        shape = (in_channels, side, side)
        found = measure_latency(model, shape, batch=batch, backend=backend, seconds=1.0)
        row |= {
            f"{name}_ms": found.median_ms,
            f"{name}_spread_ms": found.spread_ms,
            f"{name}_images_per_s": 1000 * batch / found.median_ms,
            f"{name}_memory_mb": measure_memory(model, shape, batch) / 1e6,
        }
    return row | {"speedup": row["base_ms"] / row["compressed_ms"]}
