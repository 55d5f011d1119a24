"""Trials on the nodes of a cluster: what is sent to them, what they open, what comes back.

A trial's work is a `TrialElsewhere`, which is sent once to each process, and the plan and weights of the trial's parent. It
sends its result and its weights back; the driver alone writes the run directory, whose path is not even known elsewhere. A
training that was cut off goes on from a state that its node keeps in its own temporary folder.
"""

from __future__ import annotations

import copy
import dataclasses
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triaxis.config import Config
from triaxis.errors import ConfigError
from triaxis.execution import Share, Work, make_executor
from triaxis.execution.base import Executor
from triaxis.process.usual_torch import usual_torch
from triaxis.process.walltime import added, ledger
from triaxis.progress import Silent, Tell
from triaxis.stages.context import Base, Data, Opened, Run, Trainer
from triaxis.stages.images_elsewhere import OpenImages, how_to_open, node_folder
from triaxis.stages.trial import measured
from triaxis.store.checkpoints import keep_packed, pack_checkpoint, read_packed, unpack_checkpoint
from triaxis.store.directory import RunDirectory
from triaxis.store.memory import MemoryStore
from triaxis.training.machine import Machine
from triaxis.training.teacher import Teacher
from triaxis.values import DoneTrial, PrunePlan, TrialSpec, digest

PACKAGES = ("triaxis", "torch", "torchvision", "timm")
"""Whose versions decide the numbers, and must be the driver's on every node."""

Given = tuple[PrunePlan, bytes] | None
"""The plan and the packed weights of a trial's parent; None for the base model."""


def executor_of(config: Config, device: torch.device, threads: int | None = None) -> Executor:
    """Return the executor of a run's trials.

    Args:
        config: Names it, and says what a trial may take.
        device: Of the trainings.
        threads: Of each training, where they are known.
    """
    collect, cluster = config.collect, config.collect.cluster
    is_gpu = device.type != "cpu"
    share = Share(cpus=cluster.cpus, gpus=cluster.gpus if is_gpu else 0.0, max_cpus=None if is_gpu else threads)
    return make_executor(
        collect.executor,
        collect.workers,
        address=cluster.address,
        share=share,
        retries=cluster.retries,
        silent_s=60 * cluster.silent_minutes,
    )


def require_cluster(config: Config, device: torch.device) -> None:
    """Make sure, before anything is trained, that the cluster of the configuration answers, if it names one.

    Raises:
        ConfigError: It does not, or a trial fits into none of its nodes.
        MissingDependencyError: Ray is not installed.
    """
    if config.collect.executor != "serial" and config.collect.method == "chains":
        found = executor_of(config, device)
        if hasattr(found, "check"):
            found.check()


@dataclass
class TrialElsewhere:
    """The work of a run's trials as it is sent; `open` makes the contexts from it, once in each process.

    `threads` are those of a training; None leaves the number to the cores that the trial gets.
    """

    config: Config
    images: OpenImages
    base: Base
    teacher: nn.Module
    trainer: Trainer
    threads: int | None
    versions: Mapping[str, str]
    key: str
    opened: Opened | None = None

    def open(self) -> None:
        """Check this node's packages and images, and set torch as the driver has it.

        Raises:
            ConfigError: The packages are others than the driver's.
            DataError: The images are.
        """
        _require_versions(self.versions)
        folder = node_folder(self.key)
        device = self._device()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        data = self.images.open(folder, self.trainer.task)
        teacher = Teacher(self.teacher, self.base.side_px, device, self.trainer.mode, self.trainer.task)
        trainer = dataclasses.replace(self.trainer, device=device, folder=folder, teacher=teacher)
        self.opened = Opened(Run(self.config, MemoryStore(), RunDirectory(folder), Silent()), data, self.base, trainer)

    def _device(self) -> torch.device:
        device, part = self.trainer.device, self.config.collect.cluster.gpus
        if device.type != "cuda":
            return device
        if part < 1:
            # So that what fits does not depend on the other trials on this device.
            torch.cuda.set_per_process_memory_fraction(part, device.index or 0)
        # A process of Ray's sees its own device only, as number 0.
        return torch.device("cuda") if self.config.collect.executor == "ray" else device

    @usual_torch()
    def __call__(self, spec: TrialSpec, given: Given, tell: Tell) -> tuple[DoneTrial, bytes]:
        """Do one trial; return its result, and its weights as the bytes of a checkpoint."""
        if self.opened is None:
            self.open()
        assert self.opened is not None
        run, data, base, trainer = self.opened
        start = time.perf_counter()
        with ledger() as spent:
            parent, state = base.surgeon.identity(), base.surgeon.base.state_dict()
            if given is not None:
                parent = given[0]
                state = base.surgeon.expand(parent, unpack_checkpoint(given[1], f"the weights of trial {spec.parent}"))
            result, weights = measured(run, data, base, trainer, spec, parent, state, tell)
            packed = pack_checkpoint(weights)
            trainer.forget(spec.trial_id)
        return dataclasses.replace(result, seconds=time.perf_counter() - start, seconds_by_part=spent), packed


def work_elsewhere(run: Run, data: Data, base: Base, trainer: Trainer) -> Work:
    """Return the work of a run's trials for other processes: they are given all that they need, this one alone writes."""

    def prepare(spec: TrialSpec) -> Given:
        if spec.parent is None:
            return None
        parent = run.store.trial(spec.parent)
        assert isinstance(parent, DoneTrial) and parent.checkpoint is not None
        return parent.plan, read_packed(run.directory.path / parent.checkpoint)

    def keep(result: DoneTrial, packed: bytes) -> DoneTrial:
        with ledger() as spent:
            path = keep_packed(run.directory.checkpoint(result.trial_id), packed)
        return dataclasses.replace(
            result,
            checkpoint=str(path.relative_to(run.directory.path)),
            seconds_by_part=added(result.seconds_by_part, spent),
            seconds=result.seconds + sum(spent.values()),
        )

    return Work(_sent(run, data, base, trainer), prepare, keep)


def _sent(run: Run, data: Data, base: Base, trainer: Trainer) -> TrialElsewhere:
    config, machine = run.config, trainer.machine
    assert trainer.teacher is not None
    # Threads are the rule where the configuration says them, or where the driver chose them and no other number of cores.
    is_ruled = config.threads is not None or (config.collect.workers is None and config.collect.cluster.cpus is None)
    return TrialElsewhere(
        config=config,
        images=how_to_open(run, data),
        base=dataclasses.replace(base, gauges={}),
        teacher=copy.deepcopy(trainer.teacher.model).cpu(),
        trainer=dataclasses.replace(
            trainer,
            folder=Path(),
            teacher=None,
            machine=Machine(threads=machine.threads, most=machine.most, batch_parts=machine.batch_parts),
        ),
        threads=machine.threads if is_ruled and trainer.device.type == "cpu" else None,
        versions={name: version(name) for name in PACKAGES},
        key=digest([config.to_plain(), base.digest, data.digest, platform.node(), str(run.directory.path.resolve())]),
    )


def _require_versions(wanted: Mapping[str, Any]) -> None:
    """Compare versions; what follows a plus, such as cu128, says how a package was built, and may differ.

    Raises:
        ConfigError: One differs; names the node.
    """
    found = {name: version(name) for name in wanted}
    differing = [name for name in wanted if found[name].partition("+")[0] != str(wanted[name]).partition("+")[0]]
    if differing:
        words = ", ".join(f"{name} {found[name]} instead of {wanted[name]}" for name in differing)
        raise ConfigError(f"Node {platform.node()} must have the packages of the driver, but has {words}: install the same there.")
