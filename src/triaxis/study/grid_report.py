"""The result of a grid, as JSON, as Markdown and as a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triaxis.store.files import write_json, write_text
from triaxis.study.grid_config import GridConfig
from triaxis.study.grid_networks import NetworkResult
from triaxis.study.grid_study import GridStudy, study_grid
from triaxis.values import Value


@dataclass(frozen=True)
class Trainer:
    """How fast the networks were trained, all of them together, and how much of the device that took.

    `flops_per_second` counts 2 FLOPs for each MAC of a forward pass and twice as many for the backward one; `peak_flops` is
    what a large matrix product reached on the idle device, in the same precision.
    """

    images_per_second: float
    median_per_network: float
    flops_per_second: float
    peak_flops: float
    seconds: float
    workers: int

    @property
    def share_of_peak(self) -> float:
        """Arithmetic that was done over what the device could have done, in [0, 1]."""
        return self.flops_per_second / self.peak_flops


@dataclass(frozen=True)
class GridReport:
    """Everything that a grid gave; `results` are of all networks that were tried."""

    config: GridConfig
    results: tuple[NetworkResult, ...]
    study: GridStudy | None
    trainer: Trainer | None
    environment: dict[str, Any]

    @classmethod
    def of(cls, config: GridConfig, results: Sequence[NetworkResult], environment: dict[str, Any], wall_seconds: float) -> GridReport:
        """Analyse the results."""
        return cls(config, tuple(results), study_grid(config, results), trainer_of(results, environment, wall_seconds), environment)

    @property
    def finished(self) -> list[NetworkResult]:
        """The networks that have an accuracy."""
        return [result for result in self.results if result.state == "done"]

    @property
    def failed(self) -> list[NetworkResult]:
        """The networks that have none."""
        return [result for result in self.results if result.state == "failed"]

    def to_plain(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        trainer = {**plain(self.trainer), "share_of_peak": self.trainer.share_of_peak} if self.trainer else None
        return {
            "config": self.config.to_plain(),
            "environment": self.environment,
            "trainer": trainer,
            "networks": [_network(result) for result in self.results],
            "study": plain(self.study),
        }


def trainer_of(results: Sequence[NetworkResult], environment: dict[str, Any], wall_seconds: float) -> Trainer | None:
    """Return the speed of the whole grid's training, None where no network was trained."""
    finished = [result for result in results if result.state == "done" and result.num_images]
    if not finished or wall_seconds <= 0:
        return None
    return Trainer(
        images_per_second=sum(result.num_images for result in finished) / wall_seconds,
        median_per_network=float(np.median([result.images_per_second for result in finished])),
        flops_per_second=sum(result.train_flops for result in finished) / wall_seconds,
        peak_flops=environment["peak_flops"],
        seconds=wall_seconds,
        workers=environment["workers"],
    )


def _network(result: NetworkResult) -> dict[str, Any]:
    """One network without what the configuration says already."""
    spec = result.spec
    head = {"id": spec.network_id, "layers": spec.layers, "width": spec.width, "side_px": spec.side_px, "seed": spec.seed}
    return head | {key: item for key, item in result.to_json().items() if key not in ("schema", "spec")}


def plain(item: Any) -> Any:
    """Return dataclasses, arrays and tuples as plain JSON data."""
    if isinstance(item, Value):
        return item.to_json()
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {field.name: plain(getattr(item, field.name)) for field in dataclasses.fields(item)}
    if isinstance(item, np.ndarray | np.generic):
        return item.tolist()
    if hasattr(item, "_asdict"):
        return {key: plain(part) for key, part in item._asdict().items()}
    return [plain(part) for part in item] if isinstance(item, tuple | list) else item


def write_report(report: GridReport, directory: Path) -> tuple[Path, Path, Path]:
    """Write grid.json, grid.md and grid.html; return their paths.

    Raises:
        StoreError: The directory cannot be written.
    """
    from triaxis.study.grid_page import write_grid_page
    from triaxis.study.grid_text import markdown

    return (
        write_json(directory / "grid.json", report.to_plain()),
        write_text(directory / "grid.md", markdown(report)),
        write_grid_page(report, directory / "grid.html"),
    )
