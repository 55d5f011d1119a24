"""Splits made from data sets of the user's own: (image, label) pairs in three map-style data sets."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets.vision import StandardTransform

from triaxis.data.checks import require_pixels
from triaxis.data.images import Images, Preprocess, ResidentImages, Sealed, Splits
from triaxis.data.pictures import to_rgb, to_tensor
from triaxis.errors import ConfigError, DataError
from triaxis.tasks import CLASSIFICATION, Detection, Task

log = logging.getLogger(__name__)

Channels = tuple[float, ...]
"""One number for each channel."""


def from_datasets(
    train: Any,
    val: Any,
    test: Any,
    *,
    num_classes: int | None = None,
    mean: Channels | None = None,
    std: Channels | None = None,
    task: Task = CLASSIFICATION,
) -> Splits:
    """Return splits made from map-style data sets of (image, label) pairs, decoded once and kept in memory.

    Args:
        train: Items are (C, S, S) tensors (uint8 pixels, or floating point if already normalised) or PIL images, with a whole number
            as label, or what another task wants. Of a DataLoader its data set is taken.
        val: Likewise.
        test: Likewise; no image of it is looked at until the final model is verified. Its labels are checked before where they can be
            had alone: from lists, from `TensorDataset` and torchvision's data sets, and from parts of these.
        num_classes: None takes the largest label of train and val, plus one; of another task the length of a label.
        mean: By channel, of pixels in [0, 1]. Normalises uint8 pixels and PIL images (None measures it on train); of images that come
            normalised it says by what, which `predict` needs.
        std: Standard deviations, likewise.
        task: Says what labels are, as `triaxis.tasks.make_task` gives it.

    Raises:
        DataError: A split is none or empty, its images differ in shape, or a label is out of range.
        ConfigError: `mean` or `std` has another number of channels than the images.
    """
    train, val, test = (_map_style(dataset, name) for dataset, name in ((train, "train"), (val, "val"), (test, "test")))
    shuffled = np.random.default_rng(0).permutation(len(train))
    raw = {"train": _stack(train, shuffled, "train", task), "val": _stack(val, range(len(val)), "val", task)}
    if raw["train"][0].dtype != raw["val"][0].dtype:
        kinds = " and ".join(str(pixels.dtype).removeprefix("torch.") for pixels, _ in raw.values())
        raise DataError(f"The images of the train and val splits must be of one type, got {kinds}.")
    classes = num_classes or max(task.num_outputs(labels) for _, labels in raw.values())
    stats = _preprocess(raw["train"][0], mean, std)
    opened = {name: ResidentImages(x, y, classes, stats, name=name, task=task) for name, (x, y) in raw.items()}

    def open_test() -> Images:
        return ResidentImages(*_stack(test, range(len(test)), "test", task), classes, stats, name="test", task=task)

    return Splits(train=opened["train"], val=opened["val"], test=Sealed(open_test, _known_labels(test, "test", task)), task=task)


def measured(pixels: Tensor) -> Preprocess:
    """Return mean and deviation per channel of (N, C, S, S) uint8 pixels, of the first 5000."""
    shares = pixels[:5000].float().div(255)
    mean, std = shares.mean((0, 2, 3)), shares.std((0, 2, 3)).clamp_min(1e-3)
    return Preprocess(mean=tuple(round(v, 4) for v in mean.tolist()), std=tuple(round(v, 4) for v in std.tolist()))


def require_channels(mean: Channels | None, std: Channels | None, channels: int) -> None:
    """Check that mean and std, where they are given, have a number for each channel.

    Raises:
        ConfigError: They have another number.
    """
    for name, numbers in (("mean", mean), ("std", std)):
        if numbers is not None and len(numbers) != channels:
            raise ConfigError(f"data.{name} must have a number for each of the {channels} channels of the images, got {len(numbers)}.")


def _preprocess(pixels: Tensor, mean: Channels | None, std: Channels | None) -> Preprocess:
    require_channels(mean, std, pixels.shape[1])
    if pixels.is_floating_point() or (mean is not None and std is not None):
        return Preprocess(mean=mean, std=std)
    return measured(pixels)


def _map_style(dataset: Any, name: str) -> Any:
    """Return a data set that has a length and items, taken out of its DataLoader if it is in one."""
    if isinstance(dataset, DataLoader):
        log.warning("of the %s DataLoader only its data set is used: batches, order and sampler are triaxis's own", name)
        dataset = dataset.dataset
    has_items = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not has_items or isinstance(dataset, IterableDataset | Mapping | str | bytes | Tensor | np.ndarray):
        advice = "torch.utils.data.TensorDataset(images, labels) makes one of tensors"
        if dataset is None:
            advice = f"hold some images back for {name}, for example with torch.utils.data.random_split"
        raise DataError(
            f"The {name} split must be a map-style data set of (image, label) pairs, or a DataLoader of one, "
            f"got {type(dataset).__name__}: {advice}."
        )
    if len(dataset) == 0:
        raise DataError(f"The {name} split must hold at least one image, got none.")
    return dataset


def _stack(dataset: Any, order: Iterable[int], name: str, task: Task) -> tuple[Tensor, Tensor]:
    """Return (N, C, S, S) images and (N, ...) labels."""
    pictures, labels = [], []
    for index in order:
        item = dataset[int(index)]
        if not isinstance(item, tuple | list) or len(item) != 2:
            found = f"{type(item).__name__} of {len(item)}" if isinstance(item, tuple | list | Mapping) else type(item).__name__
            raise DataError(f"Each item of the {name} split must be a pair (image, label), got a {found}.")
        pictures.append(_as_tensor(item[0], name, int(index)))
        labels.append(_label(item[1], pictures[-1], f"image {int(index)} of the {name} split", task))
    shapes = {tuple(p.shape) for p in pictures}
    first = next(iter(shapes))
    if len(shapes) > 1 or len(first) != 3 or first[1] != first[2]:
        raise DataError(
            f"All images of the {name} split must have one shape (C, S, S), got {sorted(shapes)[:4]}: resize them in the data set."
        )
    if len({p.dtype for p in pictures}) > 1:
        raise DataError(f"All images of the {name} split must be of one type, got uint8 pixels and floating point.")
    return torch.stack(pictures), task.targets(labels, name)


def _as_tensor(picture: Any, name: str, index: int) -> Tensor:
    if isinstance(picture, Tensor):
        require_pixels(picture, name)
        return picture.float() if picture.is_floating_point() else picture
    if not isinstance(picture, Image.Image):
        raise DataError(f"The images of the {name} split must be tensors or PIL images, got {type(picture).__name__}.")
    try:
        return to_tensor(to_rgb(picture))
    except ValueError as error:
        place = getattr(picture, "filename", "") or f"image {index}"
        raise DataError(f"Every image of the {name} split must be readable, but of {place} the {error}.") from None


def _label(label: Any, picture: Tensor, where: str, task: Task) -> Any:
    """Return a picture's label; boxes come in pixels, as torchvision has them, and are shares of the sides from here on."""
    return task.in_shares(label, picture.shape[-1], picture.shape[-2], where) if isinstance(task, Detection) else label


def labels_of(dataset: Any) -> Any:
    """Return the labels (N,) of a data set whose items need not be made for that, or None: of a list, `TensorDataset`, parts of them."""
    if type(dataset) is Subset:
        whole = labels_of(dataset.dataset)
        return None if whole is None else [whole[int(index)] for index in dataset.indices]
    if type(dataset) is ConcatDataset:
        parts = [labels_of(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [label for part in parts for label in part]
    if type(dataset) is TensorDataset:
        return dataset.tensors[1] if len(dataset.tensors) == 2 else None
    if type(dataset) in (list, tuple):
        return [item[1] for item in dataset] if all(isinstance(item, tuple | list) and len(item) == 2 for item in dataset) else None
    # torchvision keeps the labels of its own data sets beside the images; a class of the user's own may change them on the way.
    if type(dataset).__module__.startswith("torchvision.datasets.") and not _changes_labels(dataset):
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
        return found if found is not None and len(found) == len(dataset) else None
    return None


def _changes_labels(dataset: Any) -> bool:
    both = getattr(dataset, "transforms", None)
    return getattr(dataset, "target_transform", None) is not None or (both is not None and not isinstance(both, StandardTransform))


def _known_labels(dataset: Any, name: str, task: Task) -> Tensor | None:
    found = labels_of(dataset)
    if found is None or (isinstance(found, Tensor) and found.ndim == 1):
        return found
    if isinstance(task, Detection) and not isinstance(found, Tensor):
        return None  # what boxes in pixels mean, only their pictures tell
    return task.targets(found, name)
