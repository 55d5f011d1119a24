"""The configuration of ``triaxis study grid``: which networks to train from scratch, on what, and how."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from triaxis.config import BASE_RECIPE, BaseRecipe, DataConfig, Section, flatten
from triaxis.errors import ConfigError
from triaxis.study.grid_networks import NetworkSpec, blocks_per_stage
from triaxis.study.table1 import Family
from triaxis.values import KeepRatios

Cells = Literal["a", "b", "c", "cube"]
Place = tuple[int, float, int]
"""Layers, width, side in pixels."""

# What may change on an old grid: it decides where and how fast, never what the numbers are.
FREE_KEYS = ("out", "workers", "data.workers", "data.memory", "data.download")


class ReferenceConfig(Section):
    """The network through which the three planes of a grid are cut; the paper's is ResNet-32 or DenseNet-40, width 1, 32 px."""

    layers: int
    width: float
    side_px: int


class GridConfig(Section):
    """A grid of networks to train from scratch; the defaults are the paper's ResNets."""

    family: Family = Field(default="resnet", description="resnet or densenet, the CIFAR kind")
    depths: tuple[int, ...] = Field(default=(8, 20, 32, 44, 56), min_length=1, description="weighted layers: 6n+2, or 3n+4 for densenet")
    widths: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field(
        default=(0.6, 0.7, 0.8, 0.9, 1.0), min_length=1, description="channels over those of the family"
    )
    sides_px: tuple[Annotated[int, Field(ge=4)], ...] = Field(default=(16, 20, 24, 28, 32), min_length=1, description="sides of the images")
    cells: tuple[Cells, ...] = Field(
        default=("a", "b", "c"),
        min_length=1,
        description="planes through the reference, of one depth (a), one width (b) or one side (c); or the whole cube",
    )
    reference: ReferenceConfig | None = Field(default=None, description="null takes the middle depth, the largest width and side")
    recipe: BaseRecipe = Field(default=BASE_RECIPE, description="training of every network")
    data: DataConfig = DataConfig()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**64)], ...] = Field(
        default=(0,), min_length=1, description="each network is trained once for each"
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N")
    threads: int | None = Field(default=None, ge=1, le=1024, description="CPU threads; null uses all cores")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto times a few steps in each")
    compile: bool = Field(default=False, description="compile each network for training; pays for long trainings on a GPU")
    workers: int | None = Field(default=None, ge=1, description="networks at once; null takes several on a GPU and one on a CPU")
    out: str | None = Field(default=None, description="run directory; null is runs/NAME of this file")

    @field_validator("cells", mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            for layers in self.depths:
                blocks_per_stage(self.family, layers)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        for name in ("depths", "widths", "sides_px", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must hold each value once, got {list(getattr(self, name))}.")
        layers, width, side_px = self.centre
        if layers not in self.depths or width not in self.widths or side_px not in self.sides_px:
            raise ValueError(f"reference must be a network of the grid, got {layers} layers, width {width:g}, {side_px} px.")
        return self

    @property
    def centre(self) -> Place:
        """The reference network: layers, width, side."""
        if self.reference is not None:
            return self.reference.layers, self.reference.width, self.reference.side_px
        return sorted(self.depths)[len(self.depths) // 2], max(self.widths), max(self.sides_px)

    @property
    def largest(self) -> Place:
        """The largest network, whose keep ratios are 1."""
        return max(self.depths), max(self.widths), max(self.sides_px)

    def places(self) -> tuple[Place, ...]:
        """Return every network's layers, width and side, the most expensive first, so that networks side by side end together."""
        cube: Iterable[Place] = itertools.product(self.depths, self.widths, self.sides_px)
        if "cube" not in self.cells:
            fixed = ["abc".index(plane) for plane in self.cells]
            cube = (place for place in cube if any(place[axis] == self.centre[axis] for axis in fixed))
        return tuple(sorted(cube, key=effort, reverse=True))

    def networks(self, data_digest: str) -> tuple[NetworkSpec, ...]:
        """Return what to train: every place with every seed, one seed's whole grid after the other's."""
        return tuple(
            NetworkSpec(
                family=self.family,
                layers=layers,
                width=width,
                side_px=side_px,
                seed=seed,
                recipe=self.recipe,
                data_digest=data_digest,
            )
            for seed in self.seeds
            for layers, width, side_px in self.places()
        )

    def ratios(self, place: Place) -> KeepRatios:
        """Return keep ratios relative to the grid's largest network; the width is the one asked for."""
        layers, width, side_px = place
        most = self.largest
        return KeepRatios(
            depth=blocks_per_stage(self.family, layers) / blocks_per_stage(self.family, most[0]),
            width=width / most[1],
            resolution=side_px / most[2],
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the whole tree as plain JSON data, defaults included."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the whole tree as YAML."""
        return yaml.safe_dump(self.to_plain(), sort_keys=False, default_flow_style=False)


def effort(place: Place) -> float:
    """Return the paper's cost d w^2 r^2 of a network, in units of its own."""
    layers, width, side_px = place
    return layers * width**2 * side_px**2


def load_grid_config(path: str | Path) -> GridConfig:
    """Read the configuration of a grid.

    Raises:
        ConfigError: The file is missing, is no YAML mapping, or has unknown or wrong settings; all are named.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"The configuration of a grid must be a readable YAML file, got {path}: {reason}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of settings such as 'family: resnet', got {type(data).__name__}.")
    try:
        return GridConfig.model_validate(data)
    except ValidationError as error:
        mistakes = "\n  ".join(_sentence(dict(found)) for found in error.errors())
    raise ConfigError(f"{path}: {mistakes}")


def _sentence(found: dict[str, Any]) -> str:
    """Turn one pydantic error into: the key path, what must hold, what was got."""
    path = ".".join(str(part) for part in found["loc"])
    if found["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(path, flatten(GridConfig().to_plain()), n=1)
        hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(GridConfig.model_fields)}."
        return f"{path} is not a setting of a grid; {hint}"
    if found["type"] == "value_error":
        return f"{path}: {found['ctx']['error']}".removeprefix(": ")
    if found["type"] == "missing":
        return f"{path} must be given."
    must = found["msg"].replace("Input should", "must").replace("Tuple should", "must")
    return f"{path} {must[0].lower() + must[1:]}, got {found['input']!r}."


def grid_diff(old: GridConfig, new: GridConfig) -> list[str]:
    """Return one line ``key: old -> new`` for each setting that differs and decides the numbers."""
    before, after = flatten(old.to_plain()), flatten(new.to_plain())
    keys = [key for key in {**before, **after} if key not in FREE_KEYS]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys if before.get(key) != after.get(key)]
