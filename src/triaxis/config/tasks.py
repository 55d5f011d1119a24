"""The tasks in the box, see `triaxis.tasks`: their names, and settings that only one of them has."""

from __future__ import annotations

from pydantic import Field

from triaxis.config.section import Section

TASKS = ("classification", "multi_label", "regression", "segmentation", "detection")


class SegmentationConfig(Section):
    """What the task segmentation minds."""

    ignore_index: int = Field(default=255, description="pixels of this number in a mask count nowhere, neither in training nor in scores")
    dice: float = Field(default=0.0, ge=0, description="weight of the Dice loss that is added to the cross-entropy")
    aux: float = Field(default=0.4, ge=0, description="weight of the loss of an auxiliary head, where the model has one, such as FCN's aux")
