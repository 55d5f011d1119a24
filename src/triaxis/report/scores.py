"""What the accuracy of a run is: each task has a score of its own, and an interval that is made for it."""

from __future__ import annotations

from triaxis.report.records import Records

SCORES = {
    "accuracy": ("the share of images whose class is found", "the Wilson interval"),
    "balanced_accuracy": ("balanced: the mean of the classes' recalls", "a smoothed bootstrap within each class"),
    "multi_label": ("the mean average precision over the labels", "a bootstrap over images"),
    "regression": ("1 minus the normalised error", "a t-interval over images"),
    "detection": ("COCO's mean average precision: over classes, and over overlaps from 0.5 to 0.95", "a bootstrap over images"),
    "segmentation": ("the mean over classes of intersection over union, with pixels summed over images", "a bootstrap over images"),
}
"""What the score is and how its interval is made, by the target of a classification, or else by the task."""


def score_of(records: Records) -> tuple[str, str]:
    """Return in words what the accuracy of a run is, and how its interval is made; a task of the user's own says neither."""
    task = records.config.get("task", "classification")
    target = records.config.get("fit", {}).get("target", "accuracy")
    return SCORES.get(target if task == "classification" else task, (f"the score of the task {task}", "as the task makes it"))


def score_text(records: Records) -> str:
    """Say what the accuracies of a report are, and what stands under them."""
    score, interval = score_of(records)
    return f"The accuracy of this run is {score}. The small numbers under an accuracy are its 95\u00a0% interval: {interval}."
