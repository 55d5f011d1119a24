"""Read a compressed folder back: the network ready to run, and how its pixels are made ready."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from triaxis.data.images import Preprocess
from triaxis.deliver.hub import PREFIX, fetch
from triaxis.deliver.plan_file import build_base, read_description
from triaxis.errors import ConfigError, PlanError
from triaxis.models.detector import Detector, as_detector
from triaxis.models.zoos import ModelSource, names_code
from triaxis.process.usual_torch import usual_torch
from triaxis.store.checkpoints import load_into
from triaxis.store.directory import RunDirectory
from triaxis.surgery.find.control import Control
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import PrunePlan


def is_configured(run_dir: Path, source: ModelSource) -> bool:
    """Whether a run's own configuration names the code that its ``plan.json`` names."""
    config = RunDirectory(run_dir).config()
    is_named = not source.name or (config.model.name, config.model.args) == (source.name, source.args)
    return is_named and config.example_input == source.example_input


@usual_torch()
def load(directory: str | Path, *, model: nn.Module | None = None, allow_code: bool = False) -> nn.Module:
    """Return the compressed network that `export` wrote, ready to run and to train on; nothing is unpickled.

    Args:
        directory: A run's ``compressed`` folder, or ``hub:org/name``, which is fetched (extra ``[hub]``).
        model: The uncut base model (any weights), needed only if it was handed over in code rather than named.
        allow_code: Import and call the functions that ``plan.json`` names, where the base model is not a zoo's or takes more than
            pictures; for folders that you trust.

    Raises:
        ConfigError: The folder is none, names code without leave, or the base model cannot be made again.
        PlanError: A field of ``plan.json`` is wrong, or the plan does not fit the base model.
        StoreError: The weights are missing, damaged, or those of another network.
    """
    directory = fetch(str(directory)) if str(directory).startswith(PREFIX) else Path(directory)
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
    if source.example_input and not allow_code:
        raise ConfigError(
            f"The model in {directory} takes arguments that are made by code, {source.example_input}, which runs only with your leave: if "
            "you trust the folder, set allow_code=True (--allow-code)."
        )
    base = as_detector(copy.deepcopy(model)) if model is not None else build_base(directory, source, plan)
    if isinstance(base, Detector):
        base.normalises_as(Preprocess.from_json(description["preprocess"]))
    cut = _examined(directory, base, source).cut(plan)
    load_into(cut, directory / "model.safetensors", "copy the folder again, or write it again with `triaxis prune RUN`")
    return cut.eval()


def _examined(directory: Path, base: nn.Module, source: ModelSource) -> Surgeon:
    """Look at the base model as it was looked at when it was cut."""
    try:
        Control.of(base, source.protect, source.prune_only)
    except ConfigError as error:
        raise PlanError(f"{directory / 'plan.json'}: source: {error}") from None
    return Surgeon.examine(
        base,
        side_px=source.side_px,
        in_channels=source.in_channels,
        protect=source.protect,
        prune_only=source.prune_only,
        example_input=source.example_input,
    )


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
