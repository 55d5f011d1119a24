"""The compressed folder: the files that are handed over, each compared with the live model before it counts as done."""

from __future__ import annotations

import copy
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.config import ExportConfig
from triaxis.data.images import Preprocess
from triaxis.deliver.load import is_configured, known_preprocess, load
from triaxis.deliver.onnx import write_onnx_file
from triaxis.deliver.parity import check_parity
from triaxis.deliver.plan_file import read_description
from triaxis.deliver.pt2 import exported_program, write_pt2
from triaxis.errors import ConfigError, ExportError, TriaxisError
from triaxis.metrics.runtimes.onnx import run_onnx, write_onnx
from triaxis.metrics.runtimes.quantised import quantise_at_random
from triaxis.models.detector import exported
from triaxis.models.zoos import ModelSource
from triaxis.process.usual_torch import usual_torch
from triaxis.store.checkpoints import save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.store.files import make_folder, remove_file, write_json
from triaxis.surgery.cut.sides import first_line
from triaxis.values import PrunePlan

log = logging.getLogger(__name__)


FILES = (
    "plan.json",
    "model.safetensors",
    "model_int8.onnx",
    *(f"{name}.{form}" for name in ("model", "model_from_pixels") for form in ("pt2", "onnx")),
)
"""All that is ever written; the plan, first, says what the others are."""


@usual_torch()
def export(
    directory: Path,
    model: nn.Module,
    plan: PrunePlan,
    source: ModelSource,
    preprocess: Preprocess,
    formats: tuple[str, ...],
    class_names: tuple[str, ...] = (),
    task: str = "classification",
) -> tuple[Path, ...]:
    """Write the model in every format asked for, and check each file against the live model at batch 1 and 8.

    Args:
        directory: Where to; made if missing.
        model: The compressed network.
        plan: What was cut.
        source: How to make the base model again.
        preprocess: What the input must go through.
        formats: Of ``safetensors``, ``pt2`` and ``onnx``; the first is always written. `triaxis.deliver.int8` writes ``onnx-int8``.
        class_names: Names of the outputs.
        task: What the network was trained for; a classification is not named in the file.

    Returns:
        The files written.

    Raises:
        ExportError: A file's outputs differ from the live model's, or torch refuses to write it. Of the default formats, one that
            fails so is left out with a warning.
        MissingDependencyError: ONNX was asked for without the extra.
    """
    make_folder(directory)
    live = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    description: dict[str, Any] = {
        "plan": plan.to_json(),
        "source": source.to_json(),
        "preprocess": preprocess.to_json(),
        "class_names": list(class_names),
        "input": [source.in_channels, plan.side_px, plan.side_px],
    }
    if task != "classification":
        description["task"] = task
    if not _is_described(directory, description):
        # The files of another plan must not stand beside this one's.
        for name in FILES:
            remove_file(directory / name)
    files = [save_checkpoint(directory / "model.safetensors", live.state_dict()), write_json(directory / "plan.json", description)]
    if source.name:
        check_parity(live, load(directory, allow_code=True), description["input"], "model.safetensors")
    for form, write in WRITERS.items():
        path = directory / f"model.{form}"
        try:
            files += [write(path, exported(live), description)] if form in formats else []
        except ExportError as error:
            remove_file(path)
            if formats != ExportConfig().formats:
                raise
            log.warning("%s The other files are complete.", error)
    return tuple(files)


def refusal(model: nn.Module, input_shape: tuple[int, ...], form: str) -> str:
    """Return why torch cannot write `model` in a format, in its own words, or nothing where it can; takes seconds.

    Args:
        model: The network; it is copied, not changed.
        input_shape: (C, S, S).
        form: ``pt2``, ``onnx`` or ``onnx-int8``.
    """
    live = exported(copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format))
    try:
        if form == "pt2":
            exported_program(live, input_shape)
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = write_onnx(Path(folder) / "model.onnx", live, tuple(input_shape))
                run_onnx(path if form == "onnx" else quantise_at_random(path, Path(folder) / "model_int8.onnx", tuple(input_shape), 1))
    except TriaxisError:
        raise
    except Exception as error:  # noqa: BLE001 - the exporters raise whatever the model's code makes them raise
        return first_line(error)
    return ""


def _is_described(directory: Path, description: dict[str, Any]) -> bool:
    try:
        return read_description(directory) == json.loads(json.dumps(description))
    except TriaxisError:
        return False


@usual_torch()
def export_run(run_dir: Path, form: str, *, with_preprocessing: bool = False, model: nn.Module | None = None) -> Path:
    """Write the compressed model of a finished run in one more format.

    Args:
        run_dir: The run directory.
        form: ``safetensors``, ``pt2`` or ``onnx``.
        with_preprocessing: Fold the normalisation in: the file then takes pixels in [0, 1].
        model: As for `load`.

    Raises:
        ConfigError: The format is unknown, the run has no compressed model, or nobody said how its images were normalised.
        ExportError: The file's outputs differ from the live model's, or torch refuses to write it.
    """
    directory = RunDirectory(run_dir).compressed
    description = read_description(directory)
    live = load(directory, model=model, allow_code=is_configured(run_dir, ModelSource.from_json(description["source"])))
    if form == "safetensors":
        return save_checkpoint(directory / "model.safetensors", live.state_dict())
    if form not in WRITERS:
        raise ConfigError(f"The format must be safetensors, pt2 or onnx, got {form!r}.")
    live = exported(live)
    if with_preprocessing:
        live = nn.Sequential(Normalise(known_preprocess(directory, description)), live).eval()
        description = {**description, "preprocess": {"input": "pixels in [0, 1]"}}
    name = f"model_from_pixels.{form}" if with_preprocessing else f"model.{form}"
    return WRITERS[form](directory / name, live, description)


class Normalise(nn.Module):
    """Turns pixels in [0, 1] into the network's input."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        assert preprocess.mean is not None and preprocess.std is not None
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


WRITERS: dict[str, Callable[[Path, nn.Module, dict[str, Any]], Path]] = {"pt2": write_pt2, "onnx": write_onnx_file}
