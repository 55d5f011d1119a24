"""A split divided among several processes: of each training batch some rows, of an evaluation some whole batches.

What the processes see together is what one process would see alone, image for image. In training each takes rows from both
ends of a batch, since mixup and cutmix mix the first image with the last, the second with the last but one, and so on: partners
stay together. Where nothing is learnt, whole batches are divided: a network then answers to the last bit as it does in one process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from triaxis.data.images import Batch, Images
    from triaxis.values import Recipe


def rows_of(part: int, parts: int, num_rows: int) -> Tensor:
    """Return which rows (n,) of a batch of `num_rows` belong to one of `parts`: some from its beginning, and their mirror images.

    Each part has two rows or more where there are twice as many rows as parts.
    """
    half = num_rows // 2
    first = torch.arange(half).tensor_split(parts)[part]
    # The middle row of an odd number is its own partner.
    middle = torch.arange(half, half + num_rows % 2) if part == parts - 1 else first[:0]
    return torch.cat([first, middle, num_rows - 1 - first.flip(0)])


def fewest_rows(parts: int, num_rows: int) -> int:
    """Return the length of the smallest part of a batch."""
    return min(len(rows_of(part, parts, num_rows)) for part in range(parts))


def block_of(part: int, parts: int, number: int) -> tuple[int, int]:
    """Return the first, and the one after the last, of the `number` batches in a row that belong to one of `parts`."""
    return part * number // parts, (part + 1) * number // parts


def drawn_for(images: Tensor, change: Callable[[Tensor], Tensor], seeds: Sequence[int]) -> Tensor:
    """Return (B, C, S, S) images, each changed by chance under its own seed, so that it does not matter which process has it.

    What torch draws next on the CPU is what it would have drawn without this.
    """
    before = torch.get_rng_state()
    try:
        changed = []
        for image, seed in zip(images, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            changed.append(change(image))
        return torch.stack(changed)
    finally:
        torch.set_rng_state(before)


class Divisible:
    """A split of which a process can look at its own part without making the rest.

    `part` is (number, of how many) the rows of each batch of an epoch belong to; `first` is the image at which `in_order` begins.
    """

    part: tuple[int, int] = (0, 1)
    first: int = 0

    def own(self, order: Tensor, batch_size: int) -> Tensor:
        """Return this part's rows of each batch, given the images (N,) of whole batches in a row."""
        return order if self.part[1] == 1 else order.view(-1, batch_size)[:, rows_of(*self.part, batch_size)].flatten()

    def num_own(self, batch_size: int) -> int:
        """Return how many rows of each batch are this part's."""
        return batch_size if self.part[1] == 1 else len(rows_of(*self.part, batch_size))

    def seen_with(self, **changes: Any) -> Self:
        """Return the same split with another `part` or `first`; the same object each time, so that its workers stay."""
        key = tuple(sorted(changes.items()))
        others = self.__dict__.setdefault("_others", {})
        if key not in others:
            others[key] = copy.copy(self)
            others[key].__dict__.update(changes, _others={})
        return others[key]


class Sliced:
    """The same for a split that knows nothing of parts: all of it is made, and what belongs to others is left out."""

    def __init__(self, images: Images, part: tuple[int, int] = (0, 1), first: int = 0) -> None:
        self._images, self._part, self._first = images, part, first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)

    def __len__(self) -> int:
        return len(self._images)

    def epoch(self, *args: Any, **more: Any) -> Iterator[Batch]:
        """Yield this part's rows of each batch."""
        for batch in self._images.epoch(*args, **more):
            rows = rows_of(*self._part, len(batch.indices))
            yield type(batch)(batch.images[rows.to(batch.images.device)], batch.labels[rows.to(batch.labels.device)], batch.indices[rows])

    def in_order(self, *args: Any, **more: Any) -> Iterator[Batch]:
        """Yield the batches from the first image on."""
        return (batch for batch in self._images.in_order(*args, **more) if int(batch.indices[0]) >= self._first)


def rows_for(images: Images, part: int, parts: int) -> Images:
    """Return a split whose epochs show one part's rows of each batch; its length is that of the whole."""
    if parts == 1:
        return images
    return images.seen_with(part=(part, parts)) if isinstance(images, Divisible) else cast("Images", Sliced(images, (part, parts)))


def batches_in_order(images: Images, side_px: int, batch_size: int, part: int, parts: int, *, limit: int | None = None) -> Iterator[Batch]:
    """Yield the batches of `in_order` that belong to one part: a row of whole ones."""
    if parts == 1:
        yield from images.in_order(side_px, batch_size=batch_size, limit=limit)
        return
    count = min(len(images), limit or len(images))
    start, end = block_of(part, parts, -(-count // batch_size))
    if start < end:
        first = start * batch_size
        seen = images.seen_with(first=first) if isinstance(images, Divisible) else Sliced(images, first=first)
        yield from seen.in_order(side_px, batch_size=batch_size, limit=min(count, end * batch_size))


def batches_of_epoch(images: Images, side_px: int, recipe: Recipe, part: int, parts: int, *, limit: int) -> Iterator[Batch]:
    """Yield the batches of the epoch of seed 0 that belong to one part, of those that hold at most `limit` images: a row of whole ones."""
    if parts == 1:
        yield from images.epoch(side_px, recipe, seed=0, epoch=0, limit=limit)
        return
    start, end = block_of(part, parts, min(len(images), limit) // recipe.batch_size)
    if start < end:
        yield from images.epoch(side_px, recipe, seed=0, epoch=0, limit=end * recipe.batch_size, skip=start)
