"""Read ``plan.json`` as a file that anybody may have written: each field is checked before anything is built or opened for it."""

from __future__ import annotations

import json
import math
import re
import reprlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn
from torchvision.transforms.v2 import InterpolationMode

from triaxis.config.tree import FUNCTION_FORM, MODEL_FORM
from triaxis.data.images import Preprocess
from triaxis.errors import ConfigError, PlanError, StoreError
from triaxis.models.bounded import Limits, bounded
from triaxis.models.zoos import ModelSource, build, names_code
from triaxis.surgery.trace.inputs import called_with
from triaxis.values import PrunePlan

MAX_BYTES = 2**26
"""Of the file; a plan of a network of 100,000 channels takes 1 MB."""

MAX_INPUT = 2**26
"""Numbers of one input image; an image of 4,096 px in three colours has 50 million."""

FLOOR, MARGIN = (10_000_000, 10_000), (1000, 100)
"""A base model may have this many numbers and parts however small the weights file is, and else so many times those in the file."""

MAX_PATTERNS = 1000
"""Names of modules to protect, or to prune only; each is compared with every module of the base model."""

FREE_SHARE = 0.5
"""Share of the free memory that a base model may take, and again its tensors for one image."""


class _Fields(BaseModel):
    """The fields and their types; what else a later version writes beside them is left alone."""

    model_config = ConfigDict(extra="ignore")

    plan: PrunePlan
    source: ModelSource
    preprocess: Preprocess
    class_names: tuple[StrictStr, ...]
    task: StrictStr = "classification"
    input: tuple[StrictInt, StrictInt, StrictInt]


def read_description(directory: Path) -> dict[str, Any]:
    """Return what ``plan.json`` says: plan, source, preprocess, class names and input shape, all checked.

    Raises:
        ConfigError: The folder has no such file.
        PlanError: A field is missing, of the wrong type or out of range; names it.
    """
    path = directory / "plan.json"
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise ConfigError(
            f"{directory} must be a folder with plan.json and model.safetensors, such as RUN/compressed, got: {error}."
        ) from None
    if size > MAX_BYTES:
        raise PlanError(f"{path} must be a plan of at most {MAX_BYTES // 2**20} MiB, got {size // 2**20}.")
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} must be the JSON file that triaxis wrote, but it is damaged: {error}.") from None
    with _as_plan_error(path):
        found = _Fields.model_validate_json(json.dumps(plain), strict=True)
        for name, kind in (("plan", PrunePlan), ("source", ModelSource), ("preprocess", Preprocess)):
            kind.from_json(plain[name])
    for problem in _problems(found):
        raise PlanError(f"{path}: {problem}.")
    return plain


@contextmanager
def _as_plan_error(path: Path) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        must = first["msg"].replace("Input should be", "must be").replace("Field required", "must be there")
        raise PlanError(f"{path}: {field} {must[0].lower() + must[1:]}, got {reprlib.repr(first['input'])}.") from None
    except (ConfigError, RecursionError) as error:
        raise PlanError(f"{path}: {_short(error)}") from None


def _short(error: Exception) -> str:
    """Return an error's text on one line; what the file says stands in it, at any length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 600 else f"{text[:600]}..."


def _problems(found: _Fields) -> Iterator[str]:
    """Yield a sentence for each field that is of the right type and yet impossible."""
    plan, source, stats = found.plan, found.source, found.preprocess
    if source.name and not re.fullmatch(MODEL_FORM, source.name):
        yield f"source.name must be zoo:NAME or package.module:function, got {reprlib.repr(source.name)}"
    if source.num_classes < 1 or source.in_channels < 1 or source.side_px < 1:
        yield f"source must have classes, channels and a side above 0, got {source.num_classes}, {source.in_channels} and {source.side_px}"
    if source.in_channels * source.side_px**2 > MAX_INPUT:
        yield f"source.side_px and in_channels must make images of at most {MAX_INPUT} numbers, got {source.side_px} px"
    if plan.base_side_px != source.side_px:
        yield f"plan.base_side_px must be source.side_px, {source.side_px}, got {plan.base_side_px}"
    if found.input != (source.in_channels, plan.side_px, plan.side_px):
        yield f"input must be source.in_channels and twice plan.side_px, got {list(found.input)}"
    for name in (*plan.removed_blocks, *(cut.group for cut in plan.channels)):
        if not name.isprintable() or len(name) > 500:
            yield f"plan must name blocks and groups by the paths of modules, got {name[:100]!r}"
    if source.example_input is not None and not re.fullmatch(FUNCTION_FORM, source.example_input):
        yield f"source.example_input must be package.module:function, got {reprlib.repr(source.example_input)}"
    for key, patterns in (("protect", source.protect), ("prune_only", source.prune_only)):
        if len(patterns) > MAX_PATTERNS or not all(p.isprintable() and 0 < len(p) <= 500 for p in patterns):
            yield f"source.{key} must be at most {MAX_PATTERNS} paths of modules or globs, got {reprlib.repr(patterns)}"
    # Both are null where images came normalised from code of the user's own.
    mean, std = stats.mean or (), stats.std or ()
    is_known = stats.mean is not None or stats.std is not None
    if not all(math.isfinite(x) for x in (*mean, *std, stats.crop_fraction)) or (
        is_known and (len(mean) != len(std) or min(std, default=0) <= 0)
    ):
        yield "preprocess must have one finite mean and one deviation above 0 for each channel"
    if not 0 < stats.crop_fraction <= 1 or stats.interpolation not in {mode.value for mode in InterpolationMode}:
        yield "preprocess must have a crop_fraction in (0, 1] and an interpolation such as bilinear"


def build_base(directory: Path, source: ModelSource, plan: PrunePlan) -> nn.Module:
    """Return the untrained base model that ``plan.json`` names, built within limits that follow from the weights beside it.

    Raises:
        PlanError: There is no such model, its arguments do not fit, or it is far larger than the weights can be a cut of.
        StoreError: The weights file is missing or damaged.
    """
    if names_code(source.name):
        return build(source.name, source.args, source.num_classes)
    path = directory / "model.safetensors"
    sizes = _sizes_in(path)
    num_parts = max(FLOOR[1], MARGIN[1] * len(sizes))
    what = f"{directory / 'plan.json'}: the base model {source.name}, with {sum(sizes)} numbers left in {path.name},"
    try:
        with bounded(Limits(min(max(FLOOR[0], MARGIN[0] * sum(sizes)), _free_elements()), num_parts, what)):
            base = build(source.name, source.args, source.num_classes)
    except ConfigError as error:
        raise PlanError(f"{directory / 'plan.json'}: source: {_short(error)}") from None
    _require_counts(directory, plan, base)
    called_with(base, source.example_input)
    _require_memory(base, source, f"{directory / 'plan.json'}: one image of {source.side_px} px through {source.name}")
    return base


def _free_elements() -> int:
    return int(FREE_SHARE * psutil.virtual_memory().available / 4)


def _require_memory(base: nn.Module, source: ModelSource, what: str) -> None:
    """Run one image, counting each tensor before it is made: the surgeon keeps them all while it looks."""
    base.eval()
    with bounded(Limits(_free_elements(), sys.maxsize, what)), torch.no_grad():
        try:
            base(torch.zeros(1, source.in_channels, source.side_px, source.side_px))
        except PlanError:
            raise
        except Exception as error:
            raise PlanError(f"{what} must give logits, but it fails: {_short(error)}.") from error


def _sizes_in(path: Path) -> list[int]:
    """Return the number of elements of each tensor in a safetensors file, read off its head."""
    try:
        with safe_open(path, framework="pt") as file:
            return [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} must be the weights that belong to plan.json, got '{error}': put a copy back.") from error


def _require_counts(directory: Path, plan: PrunePlan, base: nn.Module) -> None:
    blocks, channels = sum(1 for _ in base.modules()), sum(sum(p.shape) for p in base.parameters())
    if plan.num_blocks > blocks or plan.num_channels > channels:
        raise PlanError(
            f"{directory / 'plan.json'}: plan must count no more blocks and channels than the base model has parts, "
            f"got {plan.num_blocks} blocks and {plan.num_channels} channels."
        )
