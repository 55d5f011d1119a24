"""Splits and digits are, number for number, those that scikit-learn made before it left the core install."""

from __future__ import annotations

import numpy as np
import pytest

from triaxis.data.digits import load_digits
from triaxis.data.drawing import draw_stratified


@pytest.mark.parametrize("seed", range(12))
def test_a_split_is_the_one_that_scikit_learn_draws(seed: int) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(seed)
    # Few and equal classes make ties, uneven ones make remainders.
    labels = np.repeat(np.arange(7), 12) if seed % 2 else rng.choice(5, size=211, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    labels = rng.permutation(labels)
    for amount in (0.1, 0.3, 0.77, 17, len(labels) - 9):
        expected = selection.train_test_split(np.arange(len(labels)), test_size=amount, random_state=seed, stratify=labels)
        for ours, theirs in zip(draw_stratified(labels, amount, seed), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_each_class_keeps_its_share_and_no_image_is_on_both_sides() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    left, drawn = draw_stratified(labels, 0.2, seed=0)
    assert np.bincount(labels[drawn]).tolist() == [20, 10, 2]
    assert sorted([*left, *drawn]) == list(range(160))


@pytest.mark.parametrize(
    ("labels", "amount", "reason"),
    [
        ([0, 0, 0, 1], 0.5, "two images or more"),
        ([0, 0, 1, 1], 0.25, "must be drawn, got 1 of 4"),
        ([0, 0, 1, 1], 3, "must be left, got 1 of 4"),
        ([], 0.5, "must be drawn, got 0 of 0"),
    ],
)
def test_what_cannot_be_drawn_is_said(labels: list[int], amount: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        draw_stratified(np.array(labels, dtype=int), amount, seed=0)


def test_the_digits_are_those_of_scikit_learn() -> None:
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = load_digits()
    np.testing.assert_array_equal(images, theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)
    assert labels.dtype == theirs.target.dtype
