"""Atoms: one label for each position along each dimension of each parameter, and which of them must be cut together.

Two positions carry the same label after `unify` when one cannot be removed without the other; this is a union-find.
A *plane* is an integer tensor of labels that broadcasts to the shape of the tensor it describes: a plane of shape
(1, C, 1, 1) says which channel label each element belongs to. The *support* of a plane is the dimensions it varies over.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Atoms:
    """A union-find over labels; labels are 0, 1, 2, ... in order of creation."""

    def __init__(self) -> None:
        self._parent = np.zeros(0, dtype=np.int64)
        self._is_pinned = np.zeros(0, dtype=bool)
        self._pins: list[tuple[np.ndarray, str]] = []

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, count: int) -> Tensor:
        """Return `count` new labels, each in a class of its own."""
        first = len(self._parent)
        self._parent = np.concatenate([self._parent, np.arange(first, first + count)])
        self._is_pinned = np.concatenate([self._is_pinned, np.zeros(count, dtype=bool)])
        return torch.arange(first, first + count)

    def find(self, labels: Tensor) -> Tensor:
        """Return the representative of each label's class; same shape."""
        found = labels.numpy()
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                return torch.from_numpy(np.ascontiguousarray(above))
            found = above

    def unify(self, first: Tensor, second: Tensor) -> None:
        """Put label i of `first` and label i of `second` into one class; the shapes must broadcast."""
        left, right = (part.reshape(-1).numpy() for part in torch.broadcast_tensors(self.find(first), self.find(second)))
        differ = left != right
        pairs = np.unique(np.stack([left[differ], right[differ]], 1), axis=0)
        for a, b in pairs.tolist():
            root_a, root_b = self._root(a), self._root(b)
            if root_a != root_b:
                self._parent[max(root_a, root_b)] = min(root_a, root_b)
                self._is_pinned[min(root_a, root_b)] |= self._is_pinned[max(root_a, root_b)]

    def pin(self, labels: Tensor, reason: str) -> None:
        """Declare that none of these labels can be removed, and why."""
        self._pins.append((np.unique(labels.numpy()), reason))
        self._is_pinned[self.find(labels).numpy()] = True

    def all_pinned(self, labels: Tensor) -> bool:
        """Say whether none of these labels can be removed."""
        return bool(self._is_pinned[self.find(labels).numpy()].all())

    def pinned(self) -> dict[int, str]:
        """Return {representative: the first reason given} of every class that holds a pinned label."""
        reasons: dict[int, str] = {}
        for labels, reason in self._pins:
            for root in self.find(torch.from_numpy(labels)).tolist():
                reasons.setdefault(root, reason)
        return reasons

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = int(self._parent[label])
        return label


def support(plane: Tensor) -> frozenset[int]:
    """Return the dimensions over which a plane varies."""
    return frozenset(d for d, length in enumerate(plane.shape) if length > 1)


def aligned(plane: Tensor, num_dims: int) -> Tensor:
    """Return the plane with leading dimensions of length 1, as broadcasting would add them."""
    return plane.reshape((1,) * (num_dims - plane.ndim) + tuple(plane.shape))


def squeezed(plane: Tensor) -> Tensor:
    """Return the plane with length 1 in each dimension along which it is constant."""
    for d, length in enumerate(plane.shape):
        if length > 1 and bool((plane == plane.narrow(d, 0, 1)).all()):
            plane = plane.narrow(d, 0, 1)
    return plane
