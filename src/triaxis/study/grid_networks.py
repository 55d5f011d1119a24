"""One network of a grid: what it is, and what training it from scratch gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from triaxis.errors import ConfigError
from triaxis.study.table1 import FAMILY_NAMES, Family
from triaxis.values import Recipe, Value, digest

# A CIFAR ResNet has 6n+2 layers and a DenseNet 3n+4, for n blocks in each of the three stages.
_LAYERS: dict[Family, tuple[int, int]] = {"resnet": (6, 2), "densenet": (3, 4)}


def blocks_per_stage(family: Family, layers: int) -> int:
    """Return n of ResNet-(6n+2) or DenseNet-(3n+4).

    Raises:
        ConfigError: No n gives that many layers.
    """
    factor, offset = _LAYERS[family]
    blocks, rest = divmod(layers - offset, factor)
    if rest or blocks < 1:
        near = offset + factor * max(1, blocks)
        raise ConfigError(
            f"A {FAMILY_NAMES[family]} must have {factor}n+{offset} layers, got {layers}: the nearest are {near} and {near + factor}."
        )
    return blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec(Value):
    """One network to train from scratch; equal specs are one network, whatever grid asks for it."""

    family: Family
    layers: int
    width: float
    side_px: int
    seed: int
    recipe: Recipe
    data_digest: str

    @property
    def network_id(self) -> str:
        """16 hexadecimal characters."""
        return digest(self.to_json())

    @property
    def blocks(self) -> int:
        """Blocks in each stage."""
        return blocks_per_stage(self.family, self.layers)

    def __str__(self) -> str:
        return f"{FAMILY_NAMES[self.family]}-{self.layers}, width {self.width:g}, {self.side_px} px, seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult(Value):
    """What one network gave; a failed one is a record too, with its traceback in `error`.

    `accuracy` and `loss` are on the `num_test` images of the test split. `num_images` is what training looked at, epochs
    times images; `images_per_second` the speed of training in the process that finished it.
    """

    spec: NetworkSpec
    state: Literal["done", "failed"]
    accuracy: float | None = None
    loss: float | None = None
    num_test: int = 0
    macs: int = 0
    params: int = 0
    num_images: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    error: str | None = None

    def __post_init__(self) -> None:
        if self.state == "done" and (self.accuracy is None or not 0 <= self.accuracy <= 1):
            raise ConfigError(f"A finished network must have an accuracy in [0, 1], got {self.accuracy}.")

    @property
    def train_flops(self) -> float:
        """Arithmetic of its training: 2 FLOPs for a MAC, and a training step is three forward passes."""
        return 6.0 * self.macs * self.num_images
