"""Intervals of measured accuracies, against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from triaxis.maths import interval
from triaxis.maths.interval import balanced, wilson

CASES = {
    "one class": ([0.9], [30]),
    "ten alike": ([0.9] * 10, [20] * 10),
    "ten nearly perfect": ([0.98] * 10, [36] * 10),
    "many small": ([0.97] * 60, [10] * 60),
    "uneven recalls": (np.linspace(0.3, 1.0, 10), [30] * 10),
    "uneven sizes": (np.linspace(0.3, 1.0, 10), [5, 8, 10, 20, 30, 40, 80, 100, 200, 400]),
    "a tiny class beside a huge one": ([0.7, 0.95], [5, 1000]),
    "a rare class that is hard": ([0.97, 0.6, 0.9], [1000, 20, 50]),
    "some always right": ([1.0] * 5 + [0.5] * 5, [10] * 10),
}


@pytest.mark.parametrize("name", CASES)
def test_it_covers_what_it_claims(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 simulated measurements about 95 % must hold the true value; 91 % is three standard deviations below."""
    monkeypatch.setattr(interval, "NUM_DRAWS", 1000)
    recalls, sizes = (np.array(values) for values in CASES[name])
    drawn = np.random.default_rng(1).binomial(sizes, recalls, size=(300, len(sizes)))
    found = np.array([balanced(right, sizes) for right in drawn])
    covered = np.mean((found[:, 0] <= recalls.mean()) & (recalls.mean() <= found[:, 1]))
    ideal = 2 * 1.96 * np.sqrt(np.sum(recalls * (1 - recalls) / sizes)) / len(sizes)
    assert covered >= 0.91
    assert np.mean(found[:, 1] - found[:, 0]) < 1.6 * ideal


@pytest.mark.parametrize(("right", "images"), [([0, 0], [5, 50]), ([5, 50], [5, 50]), ([5, 0], [5, 50]), ([1], [1])])
def test_a_class_with_all_or_none_right_has_a_width(right: list[int], images: list[int]) -> None:
    low, high = balanced(right, images)
    estimate = np.mean(np.array(right) / np.array(images))
    assert 0 <= low <= estimate <= high <= 1 and high - low > 0.1


def test_it_is_seeded_and_leaves_out_classes_without_images() -> None:
    assert balanced([8, 0, 3], [10, 0, 9]) == balanced([8, 3], [10, 9]) != balanced([8, 3], [10, 9], seed=1)


def test_of_equal_classes_it_is_about_wilsons() -> None:
    assert balanced([450, 450], [500, 500]) == pytest.approx(wilson(0.9, 1000), abs=0.002)


def test_rare_classes_count_as_much_as_they_weigh() -> None:
    low, high = balanced([990, 7], [1000, 10])
    one_low, one_high = balanced([7], [10])
    assert high - low == pytest.approx((one_high - one_low) / 2, rel=0.1)
