"""Export: the files that are handed over, each compared with the live model before it counts as done."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triaxis.config import ExportConfig
from triaxis.data.images import Preprocess
from triaxis.deliver.plan_file import build_base, read_description
from triaxis.errors import ConfigError, ExportError, TriaxisError
from triaxis.metrics.runtimes.onnx import run_onnx, write_onnx
from triaxis.metrics.runtimes.quantised import quantise_at_random
from triaxis.models.load import ModelSource, names_code
from triaxis.store.checkpoints import load_into, save_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.store.files import write_atomic, write_json
from triaxis.surgery.sides import first_line
from triaxis.surgery.surgeon import Surgeon
from triaxis.usual_torch import usual_torch
from triaxis.values import PrunePlan

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference of an exported file's logits from the live model's, relative to the largest logit."""

PARITY_BATCHES = (1, 8)

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

    Returns:
        The files written.

    Raises:
        ExportError: A file's outputs differ from the live model's, or torch refuses to write it. Of the default formats, one that
            fails so is left out with a warning.
        MissingDependencyError: ONNX was asked for without the extra.
    """
    directory.mkdir(parents=True, exist_ok=True)
    live = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    description: dict[str, Any] = {
        "plan": plan.to_json(),
        "source": source.to_json(),
        "preprocess": preprocess.to_json(),
        "class_names": list(class_names),
        "input": [source.in_channels, plan.side_px, plan.side_px],
    }
    if not _is_described(directory, description):
        # The files of another plan must not stand beside this one's.
        for name in FILES:
            (directory / name).unlink(missing_ok=True)
    files = [save_checkpoint(directory / "model.safetensors", live.state_dict()), write_json(directory / "plan.json", description)]
    if source.name:
        check_parity(live, load(directory, allow_code=True), description["input"], "model.safetensors")
    for form, write in WRITERS.items():
        path = directory / f"model.{form}"
        try:
            files += [write(path, live, description)] if form in formats else []
        except ExportError as error:
            path.unlink(missing_ok=True)
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
    live = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    try:
        if form == "pt2":
            _program(live, input_shape)
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = write_onnx(Path(folder) / "model.onnx", live, tuple(input_shape))
                run_onnx(path if form == "onnx" else quantise_at_random(path, Path(folder) / "model_int8.onnx", tuple(input_shape)))
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


def is_configured(run_dir: Path, source: ModelSource) -> bool:
    """Whether a run's own configuration names the model that its ``plan.json`` names."""
    chosen = RunDirectory(run_dir).config().model
    return (chosen.name, chosen.args) == (source.name, source.args)


@usual_torch()
def load(directory: str | Path, *, model: nn.Module | None = None, allow_code: bool = False) -> nn.Module:
    """Return the compressed network that `export` wrote, ready to run and to train on; nothing is unpickled.

    Args:
        directory: A run's ``compressed`` folder.
        model: The uncut base model (any weights), needed only if it was handed over in code rather than named.
        allow_code: Import and call the function that ``plan.json`` names, where the base model is not a zoo's; for folders that you trust.

    Raises:
        ConfigError: The folder is none, names code without leave, or the base model cannot be made again.
        PlanError: A field of ``plan.json`` is wrong, or the plan does not fit the base model.
        StoreError: The weights are missing, damaged, or those of another network.
    """
    directory = Path(directory)
    description = read_description(directory)
    source, plan = ModelSource.from_json(description["source"]), PrunePlan.from_json(description["plan"])
    if model is None and not source.name:
        raise ConfigError(
            f"The model in {directory} was handed over in code: pass the uncut model again, as load({str(directory)!r}, model=...)."
        )
    if model is None and names_code(source.name) and not allow_code:
        raise ConfigError(
            f"The base model in {directory} is made by code, {source.name}, which runs only with your leave: if you trust the folder, "
            "set allow_code=True (--allow-code), or pass the uncut model as model=."
        )
    base = model if model is not None else build_base(directory, source, plan)
    cut = Surgeon.examine(base, side_px=source.side_px, in_channels=source.in_channels).cut(plan)
    load_into(cut, directory / "model.safetensors", "copy the folder again, or write it again with `triaxis prune RUN`")
    return cut.eval()


def known_preprocess(directory: Path, description: dict[str, Any]) -> Preprocess:
    """Return what pixels must go through, as ``plan.json`` says.

    Raises:
        ConfigError: The images were normalised by code of the user's own, and nobody said by what.
    """
    preprocess = Preprocess.from_json(description["preprocess"])
    if preprocess.mean is None or preprocess.std is None:
        raise ConfigError(
            f"{directory} must say how pixels are normalised, but its model saw images that came normalised from code of your own: "
            "set data.mean and data.std to what they were normalised by before the run, or write them as preprocess.mean and "
            f"preprocess.std, such as [0.5, 0.5, 0.5], into {directory / 'plan.json'} now."
        )
    return preprocess


def _program(live: nn.Module, input_shape: Sequence[int]) -> torch.export.ExportedProgram:
    # Traced at batch 2: at 1, torch.export would freeze the batch.
    images = torch.zeros(2, *input_shape)
    return torch.export.export(live, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},))


def _write_pt2(path: Path, live: nn.Module, description: dict[str, Any]) -> Path:
    input_shape = description["input"]
    with _as_export_error(path):
        program = _program(live, input_shape)

    def write(temporary: Path) -> None:
        # torch.export insists on the suffix.
        named = temporary.with_name(temporary.name + ".pt2")
        torch.export.save(program, named)
        shutil.move(named, temporary)

    write_atomic(path, write)
    check_parity(live, torch.export.load(path).module(), input_shape, path.name)
    return path


def _write_onnx(path: Path, live: nn.Module, description: dict[str, Any]) -> Path:
    metadata = {key: description[key] for key in ("preprocess", "class_names", "input", "plan")}

    def write(temporary: Path) -> None:
        with _as_export_error(path):
            write_onnx(temporary, live, description["input"], metadata)

    write_atomic(path, write)
    check_parity(live, run_onnx(path), description["input"], path.name)
    return path


WRITERS: dict[str, Callable[[Path, nn.Module, dict[str, Any]], Path]] = {"pt2": _write_pt2, "onnx": _write_onnx}


@contextmanager
def _as_export_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (TriaxisError, OSError):
        raise
    except Exception as error:
        raise ExportError(
            f"{path} must be made by torch from the model's own code, but the model is refused: {first_line(error)}: "
            "keep model.safetensors, which triaxis.load reads."
        ) from error


def check_parity(live: nn.Module, other: Callable[[Tensor], Tensor], input_shape: list[int], name: str) -> None:
    """Compare outputs at batch 1 and 8.

    Raises:
        ExportError: They differ by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    for batch in PARITY_BATCHES:
        images = torch.randn(batch, *input_shape, generator=generator)
        with torch.inference_mode():
            expected, found = live(images), other(images)
        error = (expected - found).abs().max().item() / max(expected.abs().max().item(), 1e-6)
        if not error <= TOLERANCE:
            raise ExportError(
                f"{name} must give the live model's outputs to {TOLERANCE:g}, got a relative difference of {error:.2g} at batch {batch}: "
                "keep model.safetensors, and report this model."
            )
