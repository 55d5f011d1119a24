"""Draw a split at random with the same share of each class.

The draws are those of scikit-learn's ``train_test_split(..., stratify=labels)``, number for number, which made the splits
of all runs so far; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from triaxis.errors import DataError

T = TypeVar("T")

Indices = np.ndarray
"""Shape (n,), integers."""


def draw_stratified(labels: np.ndarray, amount: float | int, seed: int) -> tuple[Indices, Indices]:
    """Return the places of the images that are left, and of those that are drawn, both shuffled.

    Args:
        labels: Shape (n,), the class of each image.
        amount: How many are drawn; a float is a share in (0, 1), rounded up.
        seed: The same seed draws the same images.

    Raises:
        ValueError: A class would have no image on one of the two sides.
    """
    num_drawn = math.ceil(amount * len(labels)) if isinstance(amount, float) else amount
    num_left = len(labels) - num_drawn
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min(initial=2) < 2:
        raise ValueError(f"each class must have two images or more, got one of {classes[counts < 2].tolist()}.")
    for name, number in (("drawn", num_drawn), ("left", num_left)):
        if number < max(len(classes), 1):
            raise ValueError(f"as many images as classes ({len(classes)}) must be {name}, got {number} of {len(labels)}.")
    rng = np.random.RandomState(seed)
    left_of_class = _shares(counts, num_left, rng)
    drawn_of_class = _shares(counts - left_of_class, num_drawn, rng)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    left: list[int] = []
    drawn: list[int] = []
    for inside, num_kept, num_taken in zip(members, left_of_class, drawn_of_class, strict=True):
        order = inside[rng.permutation(len(inside))]
        left.extend(order[:num_kept])
        drawn.extend(order[num_kept : num_kept + num_taken])
    return rng.permutation(left), rng.permutation(drawn)


def draw_some(items: Sequence[T], amount: float, seed: int, split: str) -> tuple[list[T], list[T]]:
    """Return the pictures that are left and those that are drawn at random for another split, each in the old order.

    Args:
        items: Pictures with masks or boxes, of which many have more than one class.
        amount: Share that is drawn.
        seed: The same seed draws the same pictures.
        split: The name of the one that is drawn.

    Raises:
        DataError: One side would have none.
    """
    number = max(1, round(amount * len(items)))
    if number >= len(items):
        raise DataError(f"The {split} split cannot be drawn from {len(items)} pictures: add some, or make a folder for {split}.")
    chosen = set(np.random.default_rng(seed).permutation(len(items))[:number].tolist())
    return [p for i, p in enumerate(items) if i not in chosen], [p for i, p in enumerate(items) if i in chosen]


def _shares(counts: np.ndarray, number: int, rng: np.random.RandomState) -> np.ndarray:
    """Return how many of `number` fall on each class: in proportion, the largest remainders first, ties at random."""
    exact = counts / counts.sum() * number
    shares = np.floor(exact)
    remainder, lacking = exact - shares, int(number - shares.sum())
    for value in np.unique(remainder)[::-1]:
        if lacking == 0:
            break
        (tied,) = np.where(remainder == value)
        added = min(len(tied), lacking)
        shares[rng.choice(tied, size=added, replace=False)] += 1
        lacking -= added
    return shares.astype(int)
