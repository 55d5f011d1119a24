"""Boxes: how targets of many pictures become one tensor, how they move with a crop, and which found boxes are kept.

All targets of a split are one tensor (N, M, 5), where M is the largest number of boxes in a picture: x1, y1, x2, y2 in shares of the
picture's width and height, then the label from 1. Rows of zeros fill up pictures with fewer boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from triaxis.errors import DataError
from triaxis.tasks.window import Window

LEAST_SHOWN = 0.3
"""Share of a box that must be in the crop; what shows less of a thing is no target."""

SLACK = 1e-3
"""Shares of the side by which a box may reach beyond the picture, as rounding makes it; it is cut off there."""

LEAST_SCORE, MOST_CANDIDATES, MOST_OVERLAP, MOST_FOUND = 0.01, 1000, 0.5, 100
"""Which of the anchors' boxes are kept: by score, so many at most before and after those are left out that overlap a better one."""


def filled(rows: Sequence[Tensor]) -> Tensor:
    """Return (N, M, 5) float32 of each picture's boxes (m, 5), with rows of zeros at the end; M is at least 1."""
    most = max((len(row) for row in rows), default=0)
    table = torch.zeros(len(rows), max(most, 1), 5)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


def as_rows(label: Any, name: str) -> Tensor:
    """Return (m, 5) of one picture's label, a mapping with ``boxes`` (m, 4) and ``labels`` (m,) as torchvision has it.

    Raises:
        DataError: It is no such mapping; `name` says where it is from.
    """
    if isinstance(label, Tensor) and label.ndim == 2 and label.shape[1] == 5:
        return label.float()
    if not isinstance(label, Mapping) or not {"boxes", "labels"} <= set(label):
        raise DataError(
            f"Each label of {name} must be a mapping with boxes and labels for the task detection, got {type(label).__name__}: "
            "give {'boxes': (m, 4) as x1, y1, x2, y2 in pixels, 'labels': (m,) from 1}."
        )
    boxes = torch.as_tensor(label["boxes"], dtype=torch.float32).reshape(-1, 4)
    labels = torch.as_tensor(label["labels"], dtype=torch.float32).reshape(-1)
    if len(boxes) != len(labels):
        raise DataError(f"There must be a label for each box of {name}, got {len(boxes)} boxes and {len(labels)} labels.")
    return torch.cat([boxes, labels[:, None]], 1)


def fault(box: Sequence[float], label: float, num_outputs: int | None) -> str:
    """Return what is wrong with a box in shares and its label, or nothing.

    Args:
        box: x1, y1, x2, y2.
        label: From 1; 0 is the background.
        num_outputs: The largest label plus one, if it is known.
    """
    x1, y1, x2, y2 = box
    if not all(-SLACK <= number <= 1 + SLACK for number in box):
        return "it reaches outside its picture"
    if x2 <= x1 or y2 <= y1:
        return "it is empty: its right edge must be right of its left one, and its lower edge below its upper one"
    if label != int(label) or label < 1:
        return f"its label must be a whole number from 1, since 0 is the background, got {label:g}"
    if num_outputs is not None and label >= num_outputs:
        return f"its label must be at most {num_outputs - 1}, got {label:g}"
    return ""


def moved(targets: Tensor, window: Window, stored_px: int) -> Tensor:
    """Return the boxes (B, M, 5) of whole pictures as they lie in the window of each; those that leave it become rows of zeros."""
    offsets = (window.offsets.to(targets) - window.pad)[:, None, :]
    start = torch.cat([offsets.flip(-1), offsets.flip(-1)], -1)
    inside = (targets[..., :4] * stored_px - start) / window.side_px
    mirrored = torch.stack([1 - inside[..., 2], inside[..., 1], 1 - inside[..., 0], inside[..., 3]], -1)
    inside = torch.where(window.flips.to(targets.device)[:, None, None], mirrored, inside)
    shown = inside.clamp(0, 1)
    stays = (targets[..., 4] > 0) & (_area(shown) >= LEAST_SHOWN * _area(inside))
    return torch.cat([shown, targets[..., 4:]], -1) * stays[..., None]


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def kept(boxes: Tensor, scores: Tensor) -> Tensor:
    """Return the boxes that are found in one picture: of those that overlap and have one label the best alone.

    Args:
        boxes: (A, 4) of the anchors.
        scores: (A, K) in [0, 1], the first of label 1.

    Returns:
        (n, 6) box, score and label, by falling score.
    """
    flat = scores.flatten()
    chosen = (flat > LEAST_SCORE).nonzero().squeeze(1)
    if len(chosen) > MOST_CANDIDATES:
        chosen = chosen[flat[chosen].topk(MOST_CANDIDATES).indices]
    places, labels = chosen // scores.shape[1], chosen % scores.shape[1]
    best = batched_nms(boxes[places], flat[chosen], labels, MOST_OVERLAP)[:MOST_FOUND]
    return torch.cat([boxes[places[best]], flat[chosen[best], None], labels[best, None] + 1.0], 1)
