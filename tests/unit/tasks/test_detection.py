"""Detection: boxes move with crops, wrong ones are refused, and the score is pycocotools' own."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch

from triaxis.errors import ConfigError, DataError, UnsupportedModelError
from triaxis.maths.precision import mean_average_precision
from triaxis.tasks import make_task
from triaxis.tasks.boxes import filled, kept, moved
from triaxis.tasks.matching import _evaluated, matches
from triaxis.tasks.window import Window
from triaxis.values import Recipe

TASK = make_task("detection")
ONE = torch.tensor([[[0.2, 0.3, 0.6, 0.8, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]]])


def drawn_pictures(num: int, seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Right boxes, and found ones that are near some of them, far from others, and some of another class."""
    rng = np.random.default_rng(seed)
    found, right = [], []
    for _ in range(num):
        corners = rng.random((rng.integers(0, 4), 2)) * 0.6
        boxes = np.hstack([corners, corners + 0.1 + 0.3 * rng.random(corners.shape)])
        labels = rng.integers(1, 4, len(boxes))
        right.append(torch.tensor(np.hstack([boxes, labels[:, None]]), dtype=torch.float32).reshape(-1, 5))
        near = np.repeat(boxes, 2, 0) + 0.03 * rng.standard_normal((2 * len(boxes), 4))
        kinds = np.where(rng.random(len(near)) < 0.8, np.repeat(labels, 2), rng.integers(1, 4, len(near)))
        rows = np.hstack([near, rng.random((len(near), 1)), kinds[:, None]])
        found.append(torch.tensor(rows, dtype=torch.float32).reshape(-1, 6))
    return found, right


def test_the_score_is_that_of_pycocotools() -> None:
    found, right = drawn_pictures(30, 0)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluated(found, right)
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    value, (low, high), numbers = mean_average_precision(matches(found, right))
    assert value == pytest.approx(float(precision[precision > -1].mean()), abs=1e-9) and 0.2 < value < 0.9
    assert numbers["at_50"] == pytest.approx(float(precision[0][precision[0] > -1].mean()), abs=1e-9)
    assert low < value < high


def test_boxes_that_are_mirrored_and_cropped_stay_on_their_things() -> None:
    flipped = Window(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([True]), 0, 10)
    assert moved(ONE, flipped, 10)[0, 0].tolist() == pytest.approx([0.4, 0.3, 0.8, 0.8, 2.0])
    # The lower right quarter of a picture of 10 px: x from 5, y from 5, of which 5 px are shown.
    quarter = Window(torch.tensor([[5, 5]]), torch.tensor([False]), 0, 5)
    box = torch.tensor([[[0.4, 0.4, 0.9, 0.9, 1.0]]])
    assert moved(box, quarter, 10)[0, 0].tolist() == pytest.approx([0.0, 0.0, 0.8, 0.8, 1.0])
    # With a margin of 2 px the window begins outside the picture.
    outside = Window(torch.tensor([[0, 0]]), torch.tensor([False]), 2, 10)
    assert moved(box, outside, 10)[0, 0].tolist() == pytest.approx([0.6, 0.6, 1.0, 1.0, 1.0])


def test_a_box_that_has_left_the_picture_is_none() -> None:
    quarter = Window(torch.tensor([[5, 5]]), torch.tensor([False]), 0, 5)
    assert moved(torch.tensor([[[0.0, 0.0, 0.55, 0.55, 1.0]]]), quarter, 10).abs().sum() == 0


def test_a_moved_box_agrees_with_the_moved_picture() -> None:
    picture = torch.zeros(1, 1, 20, 20)
    picture[..., 6:14, 4:10] = 1
    box = torch.tensor([[[4 / 20, 6 / 20, 10 / 20, 14 / 20, 1.0]]])
    window = Window(torch.tensor([[5, 1]]), torch.tensor([True]), 2, 16)
    shown, place = window.of(picture)[0, 0], (moved(box, window, 20)[0, 0, :4] * 16).round().int().tolist()
    rows, columns = shown.nonzero().unbind(1)
    assert [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1] == place


def test_of_boxes_that_overlap_the_best_is_kept_and_classes_do_not_meet() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.52, 0.5], [0.6, 0.6, 0.9, 0.9]])
    scores = torch.tensor([[0.9, 0.3], [0.8, 0.0], [0.0, 0.7]])
    found = kept(boxes, scores)
    assert [(round(row[4], 1), row[5]) for row in found.tolist()] == [(0.9, 1.0), (0.7, 2.0), (0.3, 2.0)]


def test_labels_are_torchvisions_in_pixels() -> None:
    label = {"boxes": torch.tensor([[10.0, 20.0, 30.0, 60.0]]), "labels": torch.tensor([3])}
    row = TASK.in_shares(label, 100, 200, "image 0 of the train split")  # type: ignore[attr-defined]
    assert row.tolist() == [pytest.approx([0.1, 0.1, 0.3, 0.3, 3.0])]
    targets = TASK.targets([row, torch.zeros(0, 5)], "train")
    assert targets.shape == (2, 1, 5) and TASK.num_outputs(targets) == 4


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([0.5, 0.1, 0.4, 0.2, 1], "it is empty"),
        ([0.5, 0.1, 1.4, 0.2, 1], "reaches outside"),
        ([0.1, 0.1, 0.4, 0.2, 0], "from 1, since 0 is the background"),
        ([0.1, 0.1, 0.4, 0.2, 1.5], "whole number from 1"),
        ([0.1, 0.1, 0.4, 0.2, 9], "at most 2, got 9"),
        ([float("nan"), 0.1, 0.4, 0.2, 1], "must be finite"),
    ],
)
def test_wrong_boxes_are_refused(box: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        TASK.check_targets(filled([torch.tensor([[0.1, 0.1, 0.2, 0.2, 1.0]]), torch.tensor([box])]), 3, "train")


@pytest.mark.parametrize("label", [3, {"boxes": [[0, 0, 1, 1]]}, {"boxes": [[0, 0, 1, 1]], "labels": [1, 2]}])
def test_labels_that_are_no_boxes_are_refused(label: object) -> None:
    with pytest.raises(DataError, match="boxes"):
        TASK.targets([label], "train")
    with pytest.raises(DataError, match="must be boxes for the task detection"):
        TASK.check_targets(torch.zeros(4), 3, "train")


def test_outputs_that_are_no_boxes_are_refused_and_so_is_what_is_made_for_classes() -> None:
    with pytest.raises(UnsupportedModelError, match=r"take a detector, such as detection:fcos"):
        TASK.check_output({"boxes": torch.zeros(2, 5, 4), "scores": torch.zeros(2, 5, 7)}, 2, 3)
    with pytest.raises(UnsupportedModelError, match="its own loss"):
        TASK.loss({"boxes": torch.zeros(2, 5, 4)}, ONE, Recipe())
    with pytest.raises(ConfigError, match="mixup must be 0 for the task detection"):
        TASK.transform(Recipe(mixup=0.2), 3)


def test_a_split_without_boxes_has_no_score() -> None:
    output = {"boxes": torch.rand(2, 5, 4), "scores": torch.rand(2, 5, 2), "loss": torch.ones(2)}
    with pytest.raises(DataError, match="must have some box"):
        TASK.score([TASK.observe(output, torch.zeros(2, 1, 5))])
