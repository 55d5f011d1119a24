"""Texts call the score of a task by its name, and code stays as it is."""

from __future__ import annotations

import pytest

from triaxis.values.score import said, score_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val accuracy 0.81", "val mean IoU 0.81"),
        ("Accuracy for every budget", "Mean IoU for every budget"),
        ("under an accuracy; two accuracies", "under a mean IoU; two mean IoUs"),
        ('<b data-said="accuracy">81 %</b>', '<b data-said="accuracy">81 %</b>'),
        ('{"accuracy": 1, "test_accuracy": 2}', '{"accuracy": 1, "test_accuracy": 2}'),
        ("said.accuracy = 1", "said.accuracy = 1"),
        ("fit:\n  target: accuracy", "fit:\n  target: accuracy"),
        ('aria-label="Predicted val accuracy of trials."', 'aria-label="Predicted val mean IoU of trials."'),
    ],
)
def test_prose_changes_and_names_do_not(text: str, expected: str) -> None:
    assert said(text, score_of("segmentation")) == expected
    assert said(text, score_of("classification")) == said(text, score_of(None)) == text
