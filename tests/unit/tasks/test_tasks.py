"""The tasks' scores are those of their formulas, and what does not suit a task is refused in a sentence."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from triaxis.config import config_from_plain
from triaxis.data.images import Preprocess, ResidentImages
from triaxis.errors import ConfigError, DataError
from triaxis.maths import interval
from triaxis.tasks import make_task
from triaxis.tasks.outputs import main_output
from triaxis.training.teacher import Teacher
from triaxis.values import Recipe

Pair = namedtuple("Pair", ["logits", "aux"])


@dataclass
class Own:
    logits: torch.Tensor


def test_mean_average_precision_is_sklearns_with_ties_too() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(60, 5)).round(1)
    targets = (generator.random((60, 5)) < 0.3).astype(float)
    value, (low, high) = interval.mean_average_precision(scores, targets)
    assert value == pytest.approx(average_precision_score(targets, scores, average="macro"), abs=1e-12)
    assert low < value < high and high - low < 0.35


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).exponential(size=(1000, 60))
    covered = np.mean([low <= 1 <= high for low, high in map(interval.of_mean, draws)])
    assert 0.92 <= covered <= 0.97


def test_a_constant_is_worth_nothing_in_regression() -> None:
    task, targets = make_task("regression"), torch.arange(9.0).view(-1, 1)
    assert task.score([task.observe(torch.full((9, 1), 4.0), targets)]).value == pytest.approx(0.0)
    # Errors of 1 beside a mean deviation from the median of 20 / 9.
    assert task.score([task.observe(targets + 1, targets)]).value == pytest.approx(1 - 9 / 20)


def test_balanced_accuracy_is_asked_of_classification_alone() -> None:
    with pytest.raises(ConfigError, match=r"fit\.target balanced_accuracy is for the task classification"):
        config_from_plain({"task": "regression", "fit": {"target": "balanced_accuracy"}})


def test_a_misspelt_task_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean regression"):
        config_from_plain({"task": "regresion"})


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        ("classification", torch.tensor([0.5, 1.0]), "whole numbers from 0, got 0.5"),
        ("classification", torch.eye(2), "one whole number for each image"),
        ("multi_label", torch.tensor([[0.0, 2.0], [1.0, 0.0]]), "0 or 1 for the task multi_label, got 2"),
        ("multi_label", torch.tensor([0, 1]), r"\(images, 2\) for the task multi_label"),
        ("regression", torch.tensor([[0.0, float("nan")], [1.0, 0.0]]), "finite for the task regression"),
    ],
)
def test_labels_of_another_task_are_refused(name: str, labels: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ResidentImages(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), labels, 2, Preprocess(), task=make_task(name))


@pytest.mark.parametrize("setting", ["mixup", "cutmix", "label_smoothing"])
def test_a_recipe_for_classes_is_refused_elsewhere(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} must be 0 for the task regression"):
        make_task("regression").transform(Recipe(**{setting: 0.1}), 2)


def test_the_main_output_is_found_in_a_tuple_a_mapping_and_a_dataclass() -> None:
    logits = torch.zeros(2, 3)
    for raw in (logits, Pair(logits, None), {"out": logits, "aux": None}, {"logits": logits}, Own(logits)):
        assert main_output(raw) is logits
    assert main_output((logits, torch.zeros(1))) is logits, "of a plain tuple the first, as torchvision and timm have it"
    assert main_output({"prediction": logits}) is logits, "the only tensor"
    two = {"a": logits, "b": logits}
    assert main_output(two) is two


def test_a_task_may_forbid_that_outputs_are_kept() -> None:
    images = ResidentImages(torch.zeros(4, 3, 4, 4, dtype=torch.uint8), torch.arange(4) % 2, 2, Preprocess())
    task = make_task("classification")
    assert Teacher.remembers(images, Recipe(), task)
    task.is_remembered = False
    assert not Teacher.remembers(images, Recipe(), task)
