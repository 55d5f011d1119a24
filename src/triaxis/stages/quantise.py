"""Quantise: the delivered model in INT8, beside itself in fp32: val accuracy, test accuracy once, and latency in turns."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.data.identity import differences, identity_of
from triaxis.data.images import Images, Preprocess, Splits
from triaxis.data.sources import load_splits
from triaxis.deliver.int8 import INT8_FILE, Int8File, Runner, write_int8
from triaxis.deliver.load import is_configured, load
from triaxis.deliver.plan_file import read_description
from triaxis.errors import ConfigError, ExperimentMismatchError
from triaxis.metrics.gauge import in_turns
from triaxis.metrics.runtimes.base import timed
from triaxis.metrics.runtimes.onnx import run_onnx, write_onnx
from triaxis.models.detector import exported
from triaxis.models.zoos import ModelSource
from triaxis.process.usual_torch import usual_torch
from triaxis.stages.identity import state_digest
from triaxis.stages.summary import summarise
from triaxis.stages.task import task_of
from triaxis.store.base import Store
from triaxis.store.directory import RunDirectory
from triaxis.tasks import CLASSIFICATION, Task
from triaxis.training.evaluate import evaluate
from triaxis.training.machine import num_threads
from triaxis.values import Recipe, digest

CALIBRATION_IMAGES = 256
"""Train images that show the ranges of the activations."""

LATENCY_SECONDS = 2.0

CPU = torch.device("cpu")


class Runs(nn.Module):
    """An exported file as a network, so that it is evaluated as one."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Any:
        return self._runner(images.contiguous())


def quantise(
    store: Store, folder: Path, model: nn.Module, splits: Splits, *, task: Task = CLASSIFICATION, batch: int = 1
) -> dict[str, Any]:
    """Write the INT8 file and measure it, or recall what was measured of the same model; the record ``int8`` holds the numbers.

    Args:
        store: Keeps the numbers, and knows whether the test split was opened for this model.
        folder: A run's ``compressed`` folder, which holds the plan.
        model: The delivered network.
        splits: Train images calibrate, val images decide which layers stay in fp32, test is opened once.
        task: Says what the model's outputs are worth.
        batch: Images of one call whose latency is measured.

    Raises:
        ExportError: The model cannot be quantised.
        MissingDependencyError: The extra ``[onnx]`` is missing.
    """
    description, path = read_description(folder), folder / INT8_FILE
    weights = state_digest(model.state_dict())
    key = f"int8:{digest({'weights': weights, 'plan': description['plan'], 'data': splits.digest()})}"
    known = store.record(key)
    if known is None or not path.exists():
        side = description["input"][1]
        written = write_int8(
            path,
            model,
            description,
            _calibration(splits.train, side),
            lambda runner: evaluate(Runs(runner), splits.val, side, CPU, task=task).value,
        )
        # The file is made again where it was removed; the test split is opened once all the same.
        found = known or _measured(written, splits, side, task)
        known = {**found, **_latency(path, model, tuple(description["input"]), batch)}
        store.put_record(key, known)
    store.put_record("int8", known)
    return dict(known)


def _calibration(train: Images, side: int) -> Iterator[Tensor]:
    """Return shuffled train images at a side, not augmented."""
    num = min(CALIBRATION_IMAGES, len(train))
    plain = Recipe(batch_size=max(2, min(64, num)), crop_px=0, flip=False)
    return (batch.images for batch in train.epoch(side, plain, seed=0, epoch=0, limit=num))


def _measured(written: Int8File, splits: Splits, side: int, task: Task) -> dict[str, Any]:
    tested = evaluate(Runs(run_onnx(written.path)), splits.test.open(), side, CPU, task=task)
    return {
        "file": written.path.name,
        "file_bytes": written.path.stat().st_size,
        "val_accuracy": written.score,
        "val_accuracy_fp32": written.score_fp32,
        "test_accuracy": tested.value,
        "test_interval": list(tested.interval),
        "kept_in_fp32": list(written.kept),
    }


def _latency(path: Path, model: nn.Module, shape: tuple[int, ...], batch: int) -> dict[str, Any]:
    """Return milliseconds in fp32 and in INT8 on ONNX Runtime, read in turns, and what INT8 takes over fp32."""
    images = torch.randn(batch, *shape)
    live = exported(copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format))
    with tempfile.TemporaryDirectory(prefix="triaxis-") as folder:
        fp32 = run_onnx(write_onnx(Path(folder) / "model.onnx", live, shape))
    int8 = run_onnx(path)
    found = in_turns(timed(lambda: fp32(images)), timed(lambda: int8(images)), seconds=LATENCY_SECONDS)
    return {
        "runtime": "onnxruntime",
        "batch": batch,
        "latency_ms_fp32": found.base,
        "latency_ms": found.cost,
        "latency_ratio": found.ratio,
        "latency_ratio_interval": [found.low, found.high],
    }


@usual_torch()
def quantise_run(run_dir: Path) -> Path:
    """Quantise the compressed model of a finished run, and add the numbers to its summary.

    Raises:
        ConfigError: The run has no compressed model, or model or data were handed over in code.
        ExperimentMismatchError: The images are not those that the run began with.
        ExportError: The model cannot be quantised.
    """
    directory = RunDirectory(run_dir)
    config, description = directory.config(), read_description(directory.compressed)
    source = ModelSource.from_json(description["source"])
    if not source.name:
        raise ConfigError(
            f"The model of {run_dir} was handed over in code: set export.formats to [safetensors, onnx-int8] there, and run it again."
        )
    preprocess = Preprocess.from_json(description["preprocess"])
    with num_threads(), directory.open(config) as store:
        live = load(directory.compressed, allow_code=is_configured(run_dir, source))
        task = task_of(config)
        splits = load_splits(config.data, side_px=source.side_px, preprocess=preprocess if preprocess.mean else None, task=task)
        before = (store.record("base") or {}).get("data")
        if before and (changed := differences(before, identity_of(splits))):
            raise ExperimentMismatchError(f"{run_dir} must be given the images that it began with, but {'; '.join(changed)}.")
        quantise(store, directory.compressed, live, splits, task=task)
        if store.record("verification") is not None:
            directory.write_json("summary.json", summarise(store))
    return directory.compressed / INT8_FILE
