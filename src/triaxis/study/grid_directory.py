"""Where a grid lies: its directory, with one writer at a time, and its record of each network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from triaxis.errors import ExperimentMismatchError
from triaxis.store import SqliteStore, open_store
from triaxis.store.base import Store
from triaxis.store.directory import CHECKPOINT_NAMES, RunDirectory
from triaxis.store.files import write_text
from triaxis.store.records import check_record, read_value
from triaxis.study.grid_config import GridConfig, grid_diff, load_grid_config
from triaxis.study.grid_networks import NetworkResult, NetworkSpec


class GridDirectory(RunDirectory):
    """A run directory that belongs to a grid."""

    KIND = "grid"
    FILES = ("grid.yaml", "store.sqlite", "store.journal", "store.sqlite.damaged", "grid.json", "grid.md", "grid.html", "log.txt", ".lock")
    FOLDERS: ClassVar[dict[str, str]] = {"checkpoints": CHECKPOINT_NAMES}

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.grid_file = self.path / "grid.yaml"

    @contextmanager
    def open_grid(self, config: GridConfig) -> Iterator[SqliteStore]:
        """Hold the directory for writing and open its store; it is made where it is missing.

        Raises:
            StoreLockedError: Another process holds the directory.
            ExperimentMismatchError: It was made with another configuration, or belongs to a run.
            StoreError: It cannot be written, or holds something else.
        """
        if RunDirectory(self.path).holds_run:
            raise ExperimentMismatchError(f"{self.path} must be a grid's directory, but a run is in it: choose another with --out.")
        with self._writing():
            self._settle_grid(config)
            with open_store(self.store_file, check=check_record) as store:
                yield store

    def _settle_grid(self, config: GridConfig) -> None:
        if self.grid_file.exists() and (differing := grid_diff(load_grid_config(self.grid_file), config)):
            lines = "\n  ".join(differing)
            raise ExperimentMismatchError(
                f"The grid in {self.path} was made with another configuration; it differs in\n  {lines}\n"
                "Choose another directory with --out, or put these settings back."
            )
        write_text(self.grid_file, config.to_yaml())


class GridRecords:
    """The networks of one grid: which were tried, what they gave, which are to be trained.

    Args:
        store: Holds a record for each network that was tried; read once, here.
        specs: All networks of the grid.
    """

    def __init__(self, store: Store, specs: tuple[NetworkSpec, ...]) -> None:
        self.specs, self._store = specs, store
        found = [store.record(_key(spec)) for spec in specs]
        self._results = {
            spec.network_id: read_value(NetworkResult, plain, f"record {_key(spec)} of the grid")
            for spec, plain in zip(specs, found, strict=True)
            if plain is not None
        }

    def put(self, result: NetworkResult) -> None:
        """Commit one result."""
        self._store.put_record(_key(result.spec), result.to_json())
        self._results[result.spec.network_id] = result

    @property
    def results(self) -> list[NetworkResult]:
        """The results of the networks that were tried, in the order of the grid."""
        return [self._results[spec.network_id] for spec in self.specs if spec.network_id in self._results]

    @property
    def finished(self) -> list[NetworkResult]:
        """The results of the networks that need no training any more."""
        return [result for result in self.results if result.state == "done"]

    @property
    def pending(self) -> list[NetworkSpec]:
        """The networks to train: those that were never tried, then those that failed."""
        done = {result.spec.network_id for result in self.finished}
        waiting = [spec for spec in self.specs if spec.network_id not in done]
        return sorted(waiting, key=lambda spec: spec.network_id in self._results)

    def __str__(self) -> str:
        num_failed = len(self.results) - len(self.finished)
        said = f"{len(self.finished)} of {len(self.specs)} networks"
        return f"{said}, {num_failed} failed" if num_failed else said


def _key(spec: NetworkSpec) -> str:
    return f"network/{spec.network_id}"
