"""Mean average precision: known answers, and a bootstrap whose weights mean what repeated images mean."""

from __future__ import annotations

import numpy as np
import pytest

from triaxis.maths.precision import OVERLAPS, ClassMatches, Matches, average_precision, mean_average_precision


def of(images: list[int], is_right: list[int], num_right: list[int]) -> ClassMatches:
    rows = np.tile(np.array(is_right, bool), (len(OVERLAPS), 1))
    return ClassMatches(np.array(images, int), rows, np.array(num_right))


def plain(found: ClassMatches) -> float:
    return float(average_precision(found, np.ones((1, len(found.num_right)))).mean())


def test_known_answers() -> None:
    assert plain(of([0, 1], [1, 1], [1, 1])) == 1.0
    assert plain(of([], [], [1, 1])) == 0.0
    assert plain(of([0, 1], [0, 0], [1, 1])) == 0.0
    # Right, wrong, right, of 2: precision 1 up to recall 1/2, which are 51 of 101 recalls, then 2/3.
    assert plain(of([0, 0, 1], [1, 0, 1], [1, 1])) == pytest.approx((51 + 50 * 2 / 3) / 101)
    # Half of the boxes found: the other recalls count 0.
    assert plain(of([0], [1], [1, 1])) == pytest.approx(51 / 101)


def test_a_weight_is_so_many_copies_of_an_image() -> None:
    found = of([0, 1, 1, 2], [1, 0, 1, 1], [1, 2, 1])
    twice = of([0, 1, 1, 1, 1, 2], [1, 0, 0, 1, 1, 1], [1, 2, 1, 2])
    weighted = average_precision(found, np.array([[1.0, 2.0, 1.0]])).mean()
    # The copy's boxes stand beside the image's own; within a run of equal scores the order is the images'.
    assert weighted == pytest.approx(plain(twice), abs=0.02)
    without = of([0, 2], [1, 1], [1, 0, 1])
    assert average_precision(found, np.array([[1.0, 0.0, 1.0]])).mean() == pytest.approx(plain(without))


def test_a_class_that_a_draw_leaves_out_says_nothing() -> None:
    found = of([0], [1], [1, 0])
    assert np.isnan(average_precision(found, np.array([[0.0, 2.0]]))).all()
    value, (low, high), _ = mean_average_precision(Matches(2, {1: found, 2: of([1], [0], [0, 1])}))
    assert value == 0.5 and 0 <= low <= value <= high <= 1


def test_perfect_boxes_of_a_few_images_are_not_certain() -> None:
    value, (low, high), numbers = mean_average_precision(Matches(4, {1: of([0, 1, 2, 3], [1] * 4, [1] * 4)}))
    assert value == high == 1.0 and 0.3 < low < 0.7
    assert numbers == {"mean_average_precision": 1.0, "at_50": 1.0, "at_75": 1.0}


def test_more_images_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(0)

    def width(num: int) -> float:
        right = rng.random(num) < 0.6
        _, (low, high), _ = mean_average_precision(Matches(num, {1: of(list(range(num)), right.tolist(), [1] * num)}))
        return high - low

    assert width(400) < 0.6 * width(40)
