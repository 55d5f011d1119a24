"""``triaxis study grid``: train a grid of networks from scratch, as the paper's supplement did, and analyse it.

    GRID/
      grid.yaml         the configuration, all defaults written out
      store.sqlite      one record for each network that was finished or failed
      checkpoints/      networks that are half trained
      grid.json, grid.md, grid.html      the analysis
      log.txt, .lock    as in a run

This file knows all parts of it: read it first.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from triaxis.errors import ExperimentMismatchError
from triaxis.execution.workers import replies
from triaxis.metrics.latency import device_name
from triaxis.progress import Advance, Meter, Moment, Progress, Silent
from triaxis.store.base import Store
from triaxis.study.grid_config import GridConfig
from triaxis.study.grid_directory import GridDirectory, GridRecords
from triaxis.study.grid_networks import NetworkResult, NetworkSpec
from triaxis.study.grid_report import GridReport, write_report
from triaxis.study.grid_time import time_shares
from triaxis.study.grid_train import Bench, failed, matmul_peak_flops, open_bench
from triaxis.training.mode import Mode, choose_mode

log = logging.getLogger(__name__)

MAX_WORKERS_ON_GPU = 8


def run_grid(config: GridConfig, out: str | Path, *, progress: Progress | None = None) -> GridReport:
    """Train what is not trained yet, analyse the grid, and write grid.json, grid.md and grid.html.

    Called again, it goes on where it was: finished networks are not trained again, failed ones are.

    Args:
        config: The grid.
        out: Its directory.
        progress: Shows how far it is.

    Raises:
        TriaxisError: The images, the device or the directory are unusable; a network that fails is a record instead.
    """
    progress = progress or Silent()
    place = GridDirectory(out)
    with place.open_grid(config) as store:
        with progress.stage("load"):
            bench, environment = _prepare(config, place, store)
        records = GridRecords(store, config.networks(bench.data_digest))
        with progress.stage("train") as advance, _wall_clock(store) as tick:
            _train(config, records, bench, environment["workers"], advance, tick)
        with progress.stage("analyse"):
            report = GridReport.of(config, records.results, environment, store.record("wall_seconds"))
            write_report(report, place.path)
    return report


def _prepare(config: GridConfig, place: GridDirectory, store: Store) -> tuple[Bench, dict[str, Any]]:
    """Load the images; choose precision and memory format once for the whole grid, on its largest network."""
    bench = open_bench(config, place.checkpoints)
    environment = store.record("environment") or _measure(config, bench)
    if environment["data_digest"] != bench.data_digest:
        raise ExperimentMismatchError(
            f"The grid in {place.path} was begun with other images than {config.data.source} gives now: put them back, or choose "
            "another directory with --out."
        )
    environment |= {
        "device": device_name(bench.device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "workers": config.workers or _default_workers(bench.device),
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "triaxis")},
    }
    store.put_record("environment", environment)
    return dataclasses.replace(bench, mode=Mode.from_json(environment["mode"])), environment


def _measure(config: GridConfig, bench: Bench) -> dict[str, Any]:
    """Time what must not change while a grid is trained; the device is idle now."""
    side_px = config.largest[2]
    shape = (min(config.recipe.batch_size, 128), bench.in_channels, side_px, side_px)
    mode, seconds = choose_mode(bench.build(config.family, config.largest), shape, bench.device, precision=config.precision)
    return {
        "mode": mode.to_json(),
        "mode_seconds": seconds,
        "peak_flops": matmul_peak_flops(bench.device, mode.precision),
        "data_digest": bench.data_digest,
        "num_train": len(bench.train),
        "num_test": len(bench.test),
    }


def _default_workers(device: torch.device) -> int:
    """Several networks share a GPU, each launched by a core of its own; on a CPU one network uses all cores."""
    return max(1, min(MAX_WORKERS_ON_GPU, (os.cpu_count() or 2) // 2)) if device.type == "cuda" else 1


@contextmanager
def _wall_clock(store: Store) -> Iterator[Callable[[], None]]:
    """Record the time that training takes, over all the processes that work on the grid; the value notes how late it is."""
    start, before = time.perf_counter(), store.record("wall_seconds") or 0.0

    def tick() -> None:
        store.put_record("wall_seconds", before + time.perf_counter() - start)

    try:
        yield tick
    finally:
        tick()


def _train(config: GridConfig, records: GridRecords, bench: Bench, workers: int, advance: Advance, tick: Callable[[], None]) -> None:
    """Train what is pending; each result is committed before the next one is waited for."""
    waiting = {spec.network_id: spec for spec in records.pending}
    workers = min(workers, len(waiting))
    made = _one_by_one(records, bench, advance) if workers <= 1 else _side_by_side(config, records, bench, workers)
    advance(time_shares(records.finished, list(waiting.values()))[0], str(records))
    for result in made:
        records.put(result)
        tick()
        del waiting[result.spec.network_id]
        log.info("%s: %s", result.spec, result.error if result.accuracy is None else f"accuracy {result.accuracy:.4f}")
        advance(time_shares(records.finished, list(waiting.values()))[0], str(records))


def _one_by_one(records: GridRecords, bench: Bench, advance: Advance) -> Iterator[NetworkResult]:
    pending = records.pending
    for num, spec in enumerate(pending):
        before, after = time_shares(records.finished, pending[num:])[:2]
        tell = functools.partial(_tell, advance, before, after - before, f"{records}; {spec}")
        yield bench.attempt(spec, Meter(tell, epochs=spec.recipe.epochs, batch_size=spec.recipe.batch_size))


def _tell(advance: Advance, start: float, reach: float, note: str, share: float, moment: Moment) -> None:
    advance(start + reach * share, note, moment)


def _side_by_side(config: GridConfig, records: GridRecords, bench: Bench, workers: int) -> Iterator[NetworkResult]:
    threads = max(1, torch.get_num_threads() // workers)
    work = functools.partial(open_work, config, bench.resume_dir, bench.mode, str(bench.device), threads)
    reason = "The worker process died, perhaps for want of memory: run the same command again with fewer workers."
    return replies(records.pending, work, workers, lambda spec: failed(spec, reason))


def open_work(config: GridConfig, resume_dir: Path, mode: Mode, device: str, threads: int) -> Callable[[NetworkSpec], NetworkResult]:
    """Return what a worker process does with each network."""
    return open_bench(config, resume_dir, mode=mode, device=device, threads=threads).attempt
