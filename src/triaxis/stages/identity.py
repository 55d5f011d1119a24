"""What a run began with and its configuration does not hold: given weights and images, which must stay as long as it goes on."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from triaxis.data.identity import differences, identity_of
from triaxis.data.images import Splits
from triaxis.errors import ExperimentMismatchError
from triaxis.store.base import Store
from triaxis.store.directory import RunDirectory


def identity_of_run(given: str | None, splits: Splits) -> dict[str, Any]:
    """Return what trials depend on and the configuration does not hold: a digest of the weights that were given, and the images."""
    images = f"{len(splits.train)} train and {len(splits.val)} val images of {splits.train.num_classes} classes"
    return {"given": given, "images": images, "data": identity_of(splits)}


def state_digest(state: dict[str, Tensor]) -> str:
    """Return 16 hexadecimal characters over the names and values of a state dict."""
    seal = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        seal.update(name.encode())
        seal.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return seal.hexdigest()[:16]


def require_the_same(run: RunDirectory, store: Store, now: dict[str, Any]) -> None:
    """Compare with what the run began with; keep it where nothing was trained yet.

    Raises:
        ExperimentMismatchError: The weights or the images are others.
    """
    before = store.record("base") or (store.record("identity") if (run.checkpoints / "base.resume").exists() else None)
    if before is None:
        store.put_record("identity", now)
        return
    advice = "take these again, or choose another directory with --out"
    if before.get("given", now["given"]) != now["given"]:
        raise ExperimentMismatchError(f"The run in {run.path} began with other weights of the base model than it is given now: {advice}.")
    # Version 0.1 kept only the sentence.
    if "data" in before and (changed := differences(before["data"], now["data"])):
        at_random = "Images that a data set changes at random are other images each time: leave that to the recipes."
        hint = f" {at_random}" if any("pixels" in line for line in changed) else ""
        raise ExperimentMismatchError(
            f"The run in {run.path} must go on with the images it began with, but {'; '.join(changed)}: {advice}.{hint}"
        )
    if before.get("images", now["images"]) != now["images"]:
        raise ExperimentMismatchError(
            f"The run in {run.path} was made with {before['images']}, but there are {now['images']} now: {advice}."
        )
