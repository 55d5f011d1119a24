"""The images of a run on the nodes of a cluster: sent there, or opened there by the same data section and compared."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from triaxis.config import DataConfig
from triaxis.data.identity import differences, identity_of
from triaxis.data.images import Images, Preprocess, Sealed, Splits
from triaxis.data.sources import load_splits
from triaxis.errors import ConfigError, DataError, StoreError
from triaxis.stages.context import Data, Run
from triaxis.store.files import unwritable, write_json
from triaxis.tasks import Task

MOST_SENT_BYTES = 10**9
"""Images in memory up to this size are sent, where nothing else is asked for."""


class OpenImages(Protocol):
    """How a node comes by the images."""

    def open(self, folder: Path, task: Task) -> Data:
        """Return them, the same as the driver's.

        Raises:
            DataError: They are others there.
        """
        ...


@dataclass(frozen=True)
class SentImages:
    """The train and val images themselves; test stays with the driver."""

    splits: Splits
    digest: str

    def open(self, folder: Path, task: Task) -> Data:
        """Return what was sent; a data set of the user's own may read files, which must be the driver's."""
        _compare({}, {}, self.digest, self.splits.digest())
        return Data(self.splits, self.digest)


@dataclass(frozen=True)
class ImagesByPath:
    """Where the images are, and what they were for the driver.

    `checked` holds what the driver found out about its image files: a file with the same path, length and time of change is the
    same one, as on a shared disk; every other is read, and its bytes are compared.
    """

    config: DataConfig
    side_px: int
    preprocess: Preprocess
    identity: Mapping[str, Any]
    digest: str
    checked: Mapping[str, str]

    def open(self, folder: Path, task: Task) -> Data:
        """Open the images of this node, each file read once for all of its processes."""
        # As many processes decode as the trial has cores: others run beside it.
        config = self.config.model_copy(update={"workers": self.config.workers or torch.get_num_threads()})
        try:
            with _checked_here(folder, self.checked) as checked:
                splits = load_splits(config, side_px=self.side_px, preprocess=self.preprocess, checked=checked, task=task)
        except DataError as error:
            raise DataError(f"Node {platform.node()} must have the run's images at {self.config.source}: {error}") from None
        _compare(self.identity, identity_of(splits), self.digest, splits.digest())
        return Data(dataclasses.replace(splits, test=Sealed(_stays_with_the_driver)), self.digest, True)


def how_to_open(run: Run, data: Data) -> OpenImages:
    """Return how the nodes come by a run's images, as `collect.cluster.images` says.

    Raises:
        ConfigError: They are to be opened by path, but were handed over in code.
    """
    how, splits = run.config.collect.cluster.images, data.splits
    if how == "path" and not data.is_named:
        raise ConfigError("collect.cluster.images: path needs data.source, but the images were handed over in code: choose send or auto.")
    num_bytes = _num_bytes(splits.train) + _num_bytes(splits.val)
    is_small = splits.train.is_resident and splits.val.is_resident and num_bytes <= MOST_SENT_BYTES
    if how == "send" or not data.is_named or (how == "auto" and is_small):
        return SentImages(dataclasses.replace(splits, test=Sealed(_stays_with_the_driver)), data.digest)
    # Pictures in memory and streamed ones are cropped by other random numbers: a node must do as the driver does.
    memory = "resident" if splits.train.is_resident else "stream"
    config = run.config.data.model_copy(update={"memory": memory, "source": _absolute(run.config.data), "download": False})
    train = splits.train
    checked = run.store.record("checked_images") or {}
    return ImagesByPath(config, train.side_px, train.preprocess, identity_of(splits), data.digest, checked)


def _num_bytes(images: Images) -> int:
    return sum(part.numel() * part.element_size() for part in vars(images).values() if isinstance(part, Tensor))


def _absolute(config: DataConfig) -> str:
    """Return the source with a path that does not depend on the directory that a process works in."""
    kind, colon, place = config.source.partition(":")
    if config.has_function or not place or place.startswith("~"):
        return config.source
    return f"{kind}{colon}{os.path.abspath(place)}"


def _stays_with_the_driver() -> Images:
    raise DataError("The test split stays with the driver, which opens it once: no trial may ask for it.")


def _compare(wanted: Mapping[str, Any], found: Mapping[str, Any], digest: str, digest_here: str) -> None:
    """Compare the images here with the driver's.

    Raises:
        DataError: They differ; names the node, what differs and both digests.
    """
    said = differences(dict(wanted), dict(found))
    if not said and digest == digest_here:
        return
    reason = "; ".join(said) or "their digest is another"
    raise DataError(
        f"Node {platform.node()} must have the images that the driver has, but there {reason} (digest of names, labels and pixels or "
        f"lengths: {digest} at the driver, {digest_here} on the node): copy the driver's images there, or set collect.cluster.images: send."
    )


def node_folder(key: str) -> Path:
    """Return this node's temporary folder of a run, which belongs to this user alone; it is made where it is missing.

    Raises:
        StoreError: It cannot be made, or belongs to somebody else.
    """
    own = Path(tempfile.gettempdir()) / f"triaxis-{os.getuid()}"
    folder = own / key
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        if own.lstat().st_uid != os.getuid() or own.is_symlink():
            raise StoreError(f"{own} on node {platform.node()} must belong to the user of this process: remove it there.")
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"Node {platform.node()}: {unwritable(folder, error)}") from None
    return folder


@contextmanager
def _checked_here(folder: Path, known: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield what is known of image files on this node, to be added to; other processes of the node wait meanwhile."""
    # fcntl is not on Windows, where no node can be.
    import fcntl

    path = folder / "checked_images.json"
    with (folder / "checked_images.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        here = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        checked = {**known, **here}
        before = len(checked)
        yield checked
        if len(checked) > before:
            write_json(path, checked)
