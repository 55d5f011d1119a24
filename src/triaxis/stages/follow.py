"""Follow: what a process does that torchrun started beside the leader: the leader's work on its own part of the images.

It reads no store and writes no file. The leader's messages name a piece of work (`triaxis.stages.crew`); each is a method here.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from torch import nn

from triaxis.config import config_from_plain
from triaxis.data.images import Images, Splits
from triaxis.data.memory import deciding
from triaxis.errors import DataError, PlanError
from triaxis.models.zoos import ModelSource
from triaxis.process.interrupt import postponed
from triaxis.process.messages import error_told
from triaxis.process.ranks import Ranks, wait_for_leader
from triaxis.progress import Silent
from triaxis.stages.base import examined, load_parts_of
from triaxis.stages.context import Run, Trainer
from triaxis.stages.crew import Crew, digest_of_kept
from triaxis.stages.environment import pick_device
from triaxis.stages.task import task_of
from triaxis.store.checkpoints import put_state
from triaxis.store.directory import RunDirectory
from triaxis.store.memory import MemoryStore
from triaxis.surgery.shared import SharedWeights
from triaxis.training.machine import Machine
from triaxis.training.mode import Mode
from triaxis.training.teacher import Teacher
from triaxis.values import PrunePlan, Recipe

NO_LIMIT_S = 1e9
"""The leader has found what can be cut within its limit; the others must find as much, however long that takes."""


@dataclasses.dataclass
class Followed:
    """What the leader's run ended with: its final message, and the network."""

    message: dict[str, Any]
    model: nn.Module | None


def follow(ranks: Ranks, model: nn.Module | None = None, splits: Splits | None = None) -> Followed:
    """Do the leader's work until it ends, and return what it ended with; its error is raised here too.

    Args:
        ranks: This process and the others.
        model: The network that was handed over, as to the leader.
        splits: The data that were handed over.

    Raises:
        TriaxisError: The leader's, or this rank's own.
    """
    follower = _Follower(ranks, model, splits)
    with postponed():
        while (message := ranks.receive())["op"] != "end":
            follower.take(message)
    ranks.is_over = True
    if (error := message.get("error")) is not None:
        wait_for_leader(ranks)
        raise error_told(error)
    return Followed(message, follower.network_of(message["network"]) if message.get("network") else None)


class _Follower:
    """One rank, and what it has been told so far."""

    def __init__(self, ranks: Ranks, model: nn.Module | None, splits: Splits | None) -> None:
        self.ranks, self.given, self.given_splits = ranks, model, splits
        self.placed: dict[str, bool] = {}
        self.crew = Crew(ranks)
        self.base: nn.Module
        self.trainer: Trainer
        self.source: ModelSource

    def take(self, message: dict[str, Any]) -> None:
        """Do one piece of work. An error that all ranks know of is the leader's to act on: the next message says how."""
        op = message.pop("op")
        try:
            with self.ranks.together(op):
                getattr(self, op)(**message)
        except Exception as error:
            if not self.ranks.knows(error):
                raise
        except BaseException:
            # A signal came to all ranks, and the leader will say so.
            if self.ranks.is_busy:
                raise

    def load(self, *, config: dict[str, Any], checked: dict[str, str], placed: dict[str, bool], digest: str) -> None:
        """Load data and model as the leader has; one process of each machine goes first, so that nothing is fetched twice."""
        self.config, self.placed = config_from_plain(config), placed
        self.device = pick_device(self.config)
        self.task = task_of(self.config)
        store = MemoryStore()
        store.put_record("checked_images", checked)
        run = Run(self.config, store, RunDirectory("."), Silent())
        for is_turn in (self.ranks.local_rank == 0, self.ranks.local_rank != 0):
            if is_turn:
                with deciding(self.placed):
                    loaded = load_parts_of(run, self.task, self.given, self.given_splits)
            self.ranks.agree("turn")
        self.base, self.splits, self.source, _ = loaded
        self.crew.splits = self.splits
        if self.splits.digest() != digest:
            raise DataError("All processes must see the same train and val images, but other ones are on this machine: check data.source.")

    def train(self, *, mode: dict[str, Any], batch_parts: int) -> None:
        """Get ready to train as the leader does."""
        self.trainer = Trainer(
            device=self.device,
            mode=Mode.from_json(mode),
            folder=Path(),
            task=self.task,
            machine=Machine(batch_parts=batch_parts),
            calibrate_images=self.config.collect.calibrate_images,
            crew=self.crew,
        )

    def examine(self, *, state: dict[str, Any], round_to: int) -> None:
        """Find what can be cut of the trained base model, and take it as the teacher."""
        put_state(self.base, state, "what the leader sent")
        self.crew.surgeon = examined(self.config, self.base, self.source, round_to, seconds_limit=NO_LIMIT_S)
        teacher = Teacher(self.base, self.source.side_px, self.device, self.trainer.mode, self.task)
        self.trainer = dataclasses.replace(self.trainer, teacher=teacher)

    def finetune(self, *, network: dict[str, Any], images: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Train together; `resume_path` is the leader's."""
        recipe = Recipe.from_json(arguments.pop("recipe"))
        self.trainer.finetune(self.network_of(network), self._images(**images), recipe, **arguments)

    def train_shared(self, *, network: None, images: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Train weights that cuts share."""
        recipe = Recipe.from_json(arguments.pop("recipe"))
        plans = [PrunePlan.from_json(plan) for plan in arguments.pop("plans")]
        assert self.crew.surgeon is not None
        shared = SharedWeights(self.crew.surgeon, self.device, self.trainer.mode.torch_format)
        self.trainer.train_shared(shared, self._images(**images), recipe, plans, arguments.pop("steps"), **arguments)

    def calibrate(self, *, network: dict[str, Any], images: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Estimate batch-norm statistics."""
        recipe = Recipe.from_json(arguments.pop("recipe"))
        self.trainer.calibrate(self.network_of(network), self._images(**images), recipe=recipe, **arguments)

    def evaluate(self, *, network: dict[str, Any], images: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Evaluate a network."""
        self.trainer.evaluate(self.network_of(network), self._images(**images), **arguments)

    def quick_loss(self, *, network: dict[str, Any], images: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Look at the loss of a network."""
        self.trainer.quick_loss(self.network_of(network), self._images(**images), **arguments)

    def loss_gradients(self, *, network: dict[str, Any], images: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Look at the gradients of the loss."""
        self.trainer.loss_gradients(self.network_of(network), self._images(**images), **arguments)

    def network_of(self, sent: dict[str, Any]) -> nn.Module:
        """Return the leader's network.

        Raises:
            PlanError: This rank would cut it otherwise.
        """
        surgeon = self.crew.surgeon
        if sent["plan"] is None or surgeon is None:
            model = self.base if surgeon is None else surgeon.base
        else:
            plan = PrunePlan.from_json(sent["plan"])
            if digest_of_kept(surgeon, plan) != sent["kept"]:
                raise PlanError(
                    "A plan must keep the same channels on every rank, but here it keeps others: install the same versions everywhere."
                )
            model = surgeon.cut(plan)
        put_state(model, sent["state"], "what the leader sent")
        return model

    def _images(self, *, name: str, is_resident: bool) -> Images:
        if name != "test":
            return getattr(self.splits, name)
        self.placed.setdefault("test", is_resident)
        return self._test

    @functools.cached_property
    def _test(self) -> Images:
        with deciding(self.placed):
            return self.splits.test.open()
