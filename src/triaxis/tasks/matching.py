"""Which found boxes are right, by COCO's rules: pycocotools matches them (extra ``[detection]``)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from triaxis.errors import MissingDependencyError
from triaxis.maths.precision import OVERLAPS, ClassMatches, Matches
from triaxis.tasks.boxes import MOST_FOUND


def require_pycocotools() -> None:
    """Check that pycocotools is installed.

    Raises:
        MissingDependencyError: It is not.
    """
    if importlib.util.find_spec("pycocotools") is None:
        raise MissingDependencyError(
            "The task detection needs the package pycocotools: install the extra with pip install 'triaxis[detection]'."
        )


def matches(found: Sequence[Tensor], right: Sequence[Tensor]) -> Matches:
    """Match the boxes that are found in each picture with those that are right.

    Args:
        found: For each picture (n, 6): x1, y1, x2, y2, score, label.
        right: For each picture (m, 5): x1, y1, x2, y2, label.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    require_pycocotools()
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of each step
        evaluation = _evaluated(found, right)
    per_class = {label: _of_class(evaluation, n) for n, label in enumerate(evaluation.params.catIds)}
    return Matches(len(right), {label: of_class for label, of_class in per_class.items() if of_class.num_right.sum()})


def _evaluated(found: Sequence[Tensor], right: Sequence[Tensor]) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, predicted = COCO(), COCO()
    labels = sorted({int(label) for picture in right for label in picture[:, 4].tolist()})
    shared = {"images": [{"id": n} for n in range(len(right))], "categories": [{"id": label} for label in labels]}
    truth.dataset = {**shared, "annotations": _annotations([picture[:, :4] for picture in right], [picture[:, 4] for picture in right])}
    predicted.dataset = {
        **shared,
        "annotations": _annotations([p[:, :4] for p in found], [p[:, 5] for p in found], [p[:, 4] for p in found]),
    }
    for part in (truth, predicted):
        part.createIndex()
    evaluation = COCOeval(truth, predicted, "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets, evaluation.params.iouThrs = [MOST_FOUND], np.array(OVERLAPS)
    evaluation.evaluate()
    return evaluation


def _annotations(boxes: Sequence[Tensor], labels: Sequence[Tensor], scores: Sequence[Tensor] | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, (places, kinds) in enumerate(zip(boxes, labels, strict=True)):
        for n, ((x1, y1, x2, y2), label) in enumerate(zip(places.double().tolist(), kinds.tolist(), strict=True)):
            row: dict[str, Any] = {"id": len(rows) + 1, "image_id": image, "category_id": int(label), "iscrowd": 0}
            # The area only sorts things into small and large ones, which is not asked for.
            row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1.0}
            rows.append(row if scores is None else {**row, "score": float(scores[image][n])})
    return rows


def _of_class(evaluation: Any, number: int) -> ClassMatches:
    """Return the found boxes of one class in all pictures, by falling score."""
    pictures = len(evaluation.params.imgIds)
    found = evaluation.evalImgs[number * pictures : (number + 1) * pictures]
    num_right = np.array([0 if image is None else len(image["gtIds"]) for image in found])
    held = [(n, image) for n, image in enumerate(found) if image is not None]
    images = np.concatenate([np.full(len(image["dtScores"]), n) for n, image in held] or [np.zeros(0, int)])
    scores = np.concatenate([image["dtScores"] for _, image in held] or [np.zeros(0)])
    is_right = np.concatenate([image["dtMatches"] > 0 for _, image in held] or [np.zeros((len(OVERLAPS), 0), bool)], axis=1)
    order = np.argsort(-scores, kind="mergesort")
    return ClassMatches(images[order], is_right[:, order], num_right)
