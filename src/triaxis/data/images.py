"""Images ready to train on: decoded once and kept in memory, augmented a whole batch at a time.

An epoch is reproducible from (seed, epoch) alone: the order of the images, and each image's crop and flip, come from one
generator. Two networks trained with the same seed therefore see the same pictures, whatever their resolution, which makes
trials comparable and lets the base model's logits for distillation be computed once for all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from triaxis.data.checks import require_pixels
from triaxis.data.pixels import Preprocess, chosen_augment, normaliser, resize
from triaxis.data.workers import Decoding
from triaxis.errors import ConfigError, DataError
from triaxis.tasks import CLASSIFICATION, Task, Window, placed
from triaxis.values import Recipe


@dataclass(frozen=True)
class Batch:
    """`images` (B, C, S, S) normalised, `labels` (B, ...) as the task wants them, `indices` (B,) int64 into the split."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class Images(Protocol):
    """One split: what training and evaluation need of it.

    `num_classes` is K, the outputs that a model needs: classes, labels or numbers. A split whose labels have places in the picture,
    such as masks, crops and mirrors them as it does the picture; see `triaxis.tasks.base`.
    """

    num_classes: int
    side_px: int
    is_resident: bool
    preprocess: Preprocess

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor | None:
        """(N, ...) what the task says of each image, such as (N,) int64 class numbers, in the order of the split.

        None where they are read with the pictures, since together they are too large; the split has checked them then.
        """

    def fingerprint(self) -> str:
        """Return 16 hexadecimal characters that change when the images or the labels do."""

    def epoch(self, side_px: int, recipe: Recipe, *, seed: int, epoch: int, limit: int | None = None, skip: int = 0) -> Iterator[Batch]:
        """Yield the shuffled, augmented batches of one epoch, all of `recipe.batch_size`; at most `limit` images.

        The first `skip` batches are left out at no cost; those that follow are the same.
        """

    def in_order(self, side_px: int, *, batch_size: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """Yield every image once, not augmented, in order; at most `limit` images."""


class Sealed:
    """A split that is opened on purpose only: `times_opened` says how often it was.

    Args:
        opener: Makes the split.
        labels: (N, ...) those of all images, where they are known without a look at any image, so that wrong ones are said early.
    """

    def __init__(self, opener: Callable[[], Images], labels: Tensor | None = None) -> None:
        self._opener, self.labels = opener, labels
        self.times_opened = 0

    def open(self) -> Images:
        """Return the split, counting the opening."""
        self.times_opened += 1
        return self._opener()


@dataclass(frozen=True)
class Splits:
    """The three splits. `val` steers every choice; `test` stays sealed until `verify` opens it once.

    `files` holds, where images are files, a digest of each split's file names and their bytes. `task` says what labels are.

    Raises:
        DataError: `test` is not sealed, or its labels, where they are known, are unusable.
    """

    train: Images
    val: Images
    test: Sealed
    class_names: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    task: Task = CLASSIFICATION

    def __post_init__(self) -> None:
        if not isinstance(self.test, Sealed):
            raise DataError(f"The test split of Splits must be sealed, as Sealed(lambda: images), got {type(self.test).__name__}.")
        if self.test.labels is not None:
            self.task.check_targets(self.test.labels, self.train.num_classes, "test")

    def digest(self) -> str:
        """Return an identity of the train and val images (the test split stays closed)."""
        both = self.train.fingerprint() + self.val.fingerprint()
        return hashlib.sha256(both.encode()).hexdigest()[:16]


class ResidentImages:
    """A split that lives decoded in memory.

    Args:
        images: (N, C, S, S) uint8 pixels, or floating point if the data set is already normalised.
        labels: (N,) whole numbers in [0, num_classes), or what another task wants.
        num_classes: Number of classes, or of what else the model returns for each image.
        preprocess: Applied to uint8 pixels; of floating point ones it only says, for `predict`, how they were normalised.
        side_px: The side that the base model sees; `images` may be larger, then crops are taken from them.
        task: Says what labels are.

    Raises:
        DataError: The split is empty, its images are neither uint8 nor floating point, or a label is none of the task.
    """

    is_resident = True

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        num_classes: int,
        preprocess: Preprocess,
        side_px: int | None = None,
        name: str = "data",
        task: Task = CLASSIFICATION,
    ) -> None:
        if len(images) == 0:
            raise DataError(f"The {name} split must hold at least one image, got none: name another folder or a larger fraction.")
        if len(images) != len(labels):
            raise DataError(f"The {name} split must have one label for each image, got {len(images)} images and {len(labels)} labels.")
        require_pixels(images, name)
        self.images, self._labels = images, task.check_targets(labels, num_classes, name)
        self.num_classes, self.preprocess = num_classes, preprocess
        self.side_px = side_px or images.shape[-1]
        self.name, self.task = name, task
        self._normalise = normaliser(preprocess, images)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> Tensor:
        return self._labels

    def fingerprint(self) -> str:
        """Return 16 hexadecimal characters over every pixel and label."""
        seal = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for part in (self.images, self._labels):
            seal.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
        return seal.hexdigest()[:16]

    def to(self, device: torch.device | str) -> ResidentImages:
        """Return the split with its images on `device`."""
        labels = self._labels.to(device)
        return ResidentImages(self.images.to(device), labels, self.num_classes, self.preprocess, self.side_px, self.name, self.task)

    def epoch(self, side_px: int, recipe: Recipe, *, seed: int, epoch: int, limit: int | None = None, skip: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented batches, all of `recipe.batch_size` (images that do not fill one wait for the next epoch).

        Raises:
            DataError: There are fewer images than one batch holds.
            ConfigError: The recipe does not suit the images.
        """
        require_recipe(self, recipe, self.name)
        generator = torch.Generator().manual_seed(hash_seed(seed, epoch))
        order = torch.randperm(len(self), generator=generator)
        margin = self.images.shape[-1] - self.side_px + 2 * recipe.crop_px
        offsets = torch.randint(0, margin + 1, (len(self), 2), generator=generator)
        flips = torch.rand(len(self), generator=generator) < (0.5 if recipe.flip else 0.0)
        randaugment = chosen_augment(recipe.randaugment)
        steps = min(len(self), limit or len(self)) // recipe.batch_size
        for step in range(skip, steps):
            indices = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            window = Window(offsets[indices], flips[indices], recipe.crop_px, self.side_px)
            images = window.of(self.images[indices.to(self.images.device)])
            if randaugment is not None:
                images = torch.stack([randaugment(image) for image in images])
            yield self._batch(images, indices, side_px, window)

    def in_order(self, side_px: int, *, batch_size: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """Yield every image once, centre-cropped, in order."""
        count = min(len(self), limit or len(self))
        start = (self.images.shape[-1] - self.side_px) // 2
        for first in range(0, count, batch_size):
            indices = torch.arange(first, min(first + batch_size, count))
            images = self.images[first : first + len(indices), :, start : start + self.side_px, start : start + self.side_px]
            yield self._batch(images, indices, side_px, Window.middle(len(indices), self.images.shape[-1], self.side_px))

    def _batch(self, images: Tensor, indices: Tensor, side_px: int, window: Window) -> Batch:
        if side_px != images.shape[-1]:
            images = resize(images, side_px, self.preprocess.interpolation)
        labels = placed(self.task, self._labels[indices.to(self._labels.device)], window, self.images.shape[-1])
        return Batch(self._normalise(images), labels, indices)


class StreamedImages:
    """A split read from disk while it is used, for data that does not fit in memory.

    Args:
        dataset: Map-style; ``dataset.picture(index, side_px, offset, flip)`` gives a (C, S, S) uint8 tensor, where offset in
            [0, 1]^2 places the crop (0.5 is the centre), and ``dataset.labels`` the (N, ...) labels. Where they are None,
            ``dataset.target(index, side_px, offset, flip)`` gives the label of one picture as it is shown, at the side of the data.
        num_workers: Processes that decode; they start with the first epoch and stay for all that follow.
        task: Says what labels are.

    Raises:
        DataError: The split is empty, or a label is none of the task.
    """

    is_resident = False

    def __init__(
        self,
        dataset: Any,
        num_classes: int,
        preprocess: Preprocess,
        side_px: int,
        name: str = "data",
        num_workers: int = 2,
        task: Task = CLASSIFICATION,
    ) -> None:
        self.dataset, self.num_classes, self.preprocess = dataset, num_classes, preprocess
        self.side_px, self.name, self.num_workers = side_px, name, num_workers
        if len(dataset) == 0:
            raise DataError(f"The {name} split must hold at least one image, got none: name another folder or a larger fraction.")
        if dataset.labels is not None:
            task.check_targets(dataset.labels, num_classes, name)
        self._normalise = normaliser(preprocess, torch.empty(1, 3, 1, 1, dtype=torch.uint8))
        self._loader: torch.utils.data.DataLoader | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes belong to this process; a copy starts its own.
        return {**self.__dict__, "_loader": None}

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def labels(self) -> Tensor | None:
        return self.dataset.labels

    def fingerprint(self) -> str:
        """Return 16 hexadecimal characters over the files' names, lengths and labels (not every pixel)."""
        return hashlib.sha256(repr(self.dataset.identity()).encode()).hexdigest()[:16]

    def epoch(self, side_px: int, recipe: Recipe, *, seed: int, epoch: int, limit: int | None = None, skip: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented batches, all of `recipe.batch_size`."""
        require_recipe(self, recipe, self.name)
        generator = torch.Generator().manual_seed(hash_seed(seed, epoch))
        order = torch.randperm(len(self), generator=generator)
        count = min(len(self), limit or len(self)) // recipe.batch_size * recipe.batch_size
        places = torch.rand(len(self), 3, generator=generator)
        randaugment = chosen_augment(recipe.randaugment)
        requests = [
            (int(i), side_px, tuple(places[i, :2].tolist()), bool(recipe.flip and places[i, 2] < 0.5))
            for i in order[skip * recipe.batch_size : count].tolist()
        ]
        for images, labels, indices in self._load(requests, recipe.batch_size):
            if randaugment is not None:
                images = torch.stack([randaugment(image) for image in images])
            yield Batch(self._normalise(images), labels, indices)

    def in_order(self, side_px: int, *, batch_size: int = 256, limit: int | None = None) -> Iterator[Batch]:
        """Yield every image once, centre-cropped, in order."""
        count = min(len(self), limit or len(self))
        requests = [(i, side_px, (0.5, 0.5), False) for i in range(count)]
        for images, labels, indices in self._load(requests, batch_size):
            yield Batch(self._normalise(images), labels, indices)

    def _load(self, requests: Sequence[Request], batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        # Taken away while in use, so that an epoch begun within another gets workers of its own.
        loader, self._loader = self._loader, None
        kept = loader if loader is not None and loader.num_workers == self.num_workers else None
        decoding = Decoding(self._make_loader, kept, self.name)
        try:
            yield from decoding.batches(requests, batch_size)
        finally:
            self._loader = decoding.loader

    def _make_loader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(
            _Pictures(self.dataset, self.side_px),
            batch_sampler=_Batches(),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # One of its own: it must not draw from the numbers that dropout draws from.
            generator=torch.Generator(),
        )


Request = tuple[int, int, tuple[float, ...], bool]
"""What a worker is asked for: index, side in pixels, place of the crop, whether it is mirrored."""


class _Batches(torch.utils.data.Sampler[list[Request]]):
    """The batches of the epoch at hand; they change from epoch to epoch, while loader and workers stay."""

    def __init__(self) -> None:
        self.requests: Sequence[Request] = ()
        self.batch_size = 1

    def __iter__(self) -> Iterator[list[Request]]:
        for first in range(0, len(self.requests), self.batch_size):
            yield list(self.requests[first : first + self.batch_size])


class _Pictures(torch.utils.data.Dataset):
    def __init__(self, dataset: Any, side_px: int) -> None:
        self.dataset, self.side_px = dataset, side_px

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor, int]:
        index, _, offset, flip = request
        labels = self.dataset.labels
        label = self.dataset.target(index, self.side_px, offset, flip) if labels is None else labels[index]
        return self.dataset.picture(*request), label, index


def hash_seed(*parts: object) -> int:
    """Return a 63-bit seed from any printable parts; unlike `hash`, the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def require_batch(num_images: int, batch_size: int, name: str) -> None:
    """Check that a split fills a batch.

    Raises:
        DataError: It does not.
    """
    if num_images < batch_size:
        raise DataError(f"The {name} split must hold at least one batch of {batch_size} images, got {num_images}: lower batch_size.")


def require_recipe(images: Images, recipe: Recipe, name: str) -> None:
    """Check that a recipe suits a split.

    Raises:
        DataError: The split does not fill a batch.
        ConfigError: The crop reaches beyond the mirrored picture, or RandAugment would not be given pixels.
    """
    require_batch(len(images), recipe.batch_size, name)
    if recipe.crop_px >= images.side_px:
        raise ConfigError(
            f"crop_px must be smaller than the side of the {name} split's images, {images.side_px} px, got {recipe.crop_px}: lower crop_px."
        )
    if recipe.randaugment and isinstance(images, ResidentImages) and images.images.is_floating_point():
        raise ConfigError(
            f"randaugment must be empty where images come normalised, as those of the {name} split do, got {recipe.randaugment!r}: "
            "hand over uint8 pixels instead."
        )
