"""How a run trains on its machine: device, threads, precision and memory format: chosen once, stored in the `environment` record."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from triaxis.config import Config
from triaxis.errors import ConfigError
from triaxis.metrics.latency import device_name
from triaxis.store.base import Store
from triaxis.training.machine import FALL, Machine, Shape, candidates, fewest_enough, is_out_of_memory, time_threads
from triaxis.training.mode import PLAIN, Mode, choose_mode
from triaxis.training.stopwatch import LossOf, squares

log = logging.getLogger(__name__)


def pick_device(config: Config) -> torch.device:
    """Return the device to work on, and set the number of threads.

    Raises:
        ConfigError: The named device is not there.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    device = torch.device(config.device)
    is_there = getattr(getattr(torch, device.type, None), "is_available", lambda: False)
    if device.type != "cpu" and not is_there():
        raise ConfigError(f"device must be one that this machine has, got {config.device!r}: set device: auto.")
    return device


def how_to_train(
    config: Config, store: Store, network: nn.Module, shape: Shape, device: torch.device, loss_of: LossOf = squares
) -> tuple[Mode, Machine]:
    """Return mode and machine: chosen once per run, since choosing twice could change the numbers; a run that goes on takes them up.

    The number of threads is set here; what the machine learns later is stored too.

    Args:
        config: Says what is a rule and what is free.
        store: Holds the `environment` record.
        network: The base model; it is not changed.
        shape: (B, C, S, S) of the batches that are timed.
        device: Where training will happen.
        loss_of: Runs the network in the steps that are timed, and gives the loss.
    """
    machine = Machine(is_free=config.threads is None and device.type == "cpu", loss_of=loss_of)
    if store.record("environment") is None:
        store.put_record("environment", _measure_once(config, network, shape, device, machine))
    record = store.record("environment")
    mode = Mode.from_json(record["mode"])

    def remember(learnt: Machine) -> None:
        known = store.record("environment") or {}
        store.put_record("environment", {**known, "threads": learnt.threads, "batch_parts": learnt.batch_parts})

    machine.batch_parts, machine.remember = record.get("batch_parts", 1), remember
    if machine.is_free:
        # A run directory may have moved to a machine with fewer cores.
        machine.threads = min(record["threads"], machine.most)
        torch.set_num_threads(machine.threads)
        _look_again_if_slow(network, shape, device, mode, machine, record.get("threads_seconds", {}))
    return mode, machine


def _measure_once(config: Config, network: nn.Module, shape: Shape, device: torch.device, machine: Machine) -> dict[str, Any]:
    """Choose threads and mode by timing training steps, at a batch that fits in memory, and return the environment record."""
    threads_seconds: Mapping[int, float] = {}
    while True:
        try:
            if machine.is_free:
                threads_seconds = time_threads(network, shape, device, PLAIN, candidates(machine.most), loss_of=machine.loss_of)
                machine.threads = fewest_enough(threads_seconds)
                torch.set_num_threads(machine.threads)
            mode, seconds = choose_mode(network, shape, device, precision=config.precision, loss_of=machine.loss_of)
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or shape[0] < 4:
                raise
        shape = (shape[0] // 2, *shape[1:])
    if machine.is_free:
        log.info("training on %d of %d threads: %s", machine.threads, machine.most, _words(threads_seconds))
    return {
        "device": device_name(device),
        "threads": machine.threads,
        "threads_seconds": {str(count): found for count, found in threads_seconds.items()},
        "mode": mode.to_json(),
        "mode_seconds": seconds,
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "triaxis")},
    }


def _look_again_if_slow(
    network: nn.Module, shape: Shape, device: torch.device, mode: Mode, machine: Machine, before: Mapping[str, float]
) -> None:
    """Measure the threads again where a run goes on at less than half of the speed that was measured when it began."""
    known = before.get(str(machine.threads))
    if known is None:
        return
    now = time_threads(network, shape, device, PLAIN, (machine.threads,), loss_of=machine.loss_of)[machine.threads]
    if known < FALL * now:
        machine.look_again(network, shape, device, mode, known / now)


def _words(seconds: Mapping[int, float]) -> str:
    return ", ".join(f"{1e3 * found:.0f} ms a step on {count}" for count, found in seconds.items())
