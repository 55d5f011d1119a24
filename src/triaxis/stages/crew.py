"""Several processes on one run, seen from the leader: what it has the others do, and on which network and images.

The leader runs the stages as it would alone. Only what takes time, training and evaluating, is done by all: the leader sends
the plan of the network, its weights and the arguments, and the others, which wait in `triaxis.stages.follow`, cut theirs alike.
They never decide: times, costs, plans and choices are the leader's. While it measures latency they are idle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from triaxis.config import Config
from triaxis.data.images import Images, Splits
from triaxis.errors import ConfigError
from triaxis.process.interrupt import postponed
from triaxis.process.ranks import ALONE, Ranks
from triaxis.surgery.surgeon import Surgeon, plan_of
from triaxis.values import PrunePlan


@dataclass
class Crew:
    """The ranks of a run, and what the leader may speak of; alone, it does nothing.

    Args:
        ranks: This process and the others.
        splits: The images, once they are loaded.
        surgeon: Cuts the base model, once that is trained.
    """

    ranks: Ranks = field(default_factory=lambda: ALONE)
    splits: Splits | None = None
    surgeon: Surgeon | None = None

    @contextmanager
    def told(self, op: str, **plain: Any) -> Iterator[None]:
        """Have the others get ready in some way that needs no network, while this rank does what is inside."""
        if self.ranks.is_alone:
            yield
            return
        self.ranks.send({"op": op, **plain})
        with self.ranks.together(op):
            yield

    @contextmanager
    def at_work(self, op: str, model: nn.Module | None, images: Images, **arguments: Any) -> Iterator[None]:
        """Do a piece of work together with the others; `arguments` are plain data, and `model` one of the run's networks.

        Raises:
            TriaxisError: One of them has failed.
        """
        if self.ranks.is_alone:
            yield
            return
        with postponed():
            if self.ranks.leads:
                self.ranks.send({"op": op, "network": self._network(model), "images": self._images(images), "arguments": arguments})
            with self.ranks.together(op):
                yield

    def finish(self, model: nn.Module | None, **plain: Any) -> None:
        """Let the others go, with the network that came of it."""
        if not self.ranks.is_alone:
            self.ranks.end({"network": self._network(model), **plain})

    def _network(self, model: nn.Module | None) -> dict[str, Any] | None:
        """Return what another rank needs to have the same network: its plan, None for the uncut one, and its weights."""
        if model is None:
            return None
        plan = plan_of(model)
        kept = None if plan is None or self.surgeon is None else digest_of_kept(self.surgeon, plan)
        return {"plan": None if plan is None else plan.to_json(), "kept": kept, "state": on_cpu(model.state_dict())}

    def _images(self, images: Images) -> dict[str, Any]:
        assert self.splits is not None
        named = {"train": self.splits.train, "val": self.splits.val}
        name = next((name for name, split in named.items() if split is images), "test")
        return {"name": name, "is_resident": images.is_resident}


def on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return plain tensors, to be sent."""
    return {name: tensor.detach().cpu() for name, tensor in state.items()}


def digest_of_kept(surgeon: Surgeon, plan: PrunePlan) -> str:
    """Return 16 hexadecimal characters over which channels of which tensors a plan keeps: the masks of the cut."""
    seal = hashlib.sha256()
    for name, places in sorted(surgeon.kept(plan).items()):
        for dim, kept in sorted(places.items()):
            seal.update(f"{name} {dim} {kept.tolist()}".encode())
    return seal.hexdigest()[:16]


def require_able(config: Config, ranks: Ranks) -> None:
    """Check that a run can be done by several ranks.

    Raises:
        ConfigError: It cannot.
    """
    if ranks.is_alone:
        return
    if config.collect.executor != "serial":
        raise ConfigError(
            f"collect.executor must be serial where torchrun starts {ranks.size} processes, got {config.collect.executor}: "
            "they train each trial together; start one process without torchrun to have trials side by side."
        )
    collect = config.collect
    trials = ("collect.shared", collect.shared) if collect.method == "elastic" else ("collect.recipe", collect.recipe)
    recipes = dict([("base", config.base), trials, ("finetune", config.finetune)])
    for name, recipe in recipes.items():
        if recipe.batch_size < 2 * ranks.size:
            raise ConfigError(
                f"{name}.batch_size must be at least two images for each of {ranks.size} processes, got {recipe.batch_size}: "
                f"raise it to {2 * ranks.size} or more, or start fewer processes."
            )
