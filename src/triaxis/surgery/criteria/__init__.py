"""Criteria: how much a channel matters, one class each; see `base` for what they must do."""

from __future__ import annotations

from triaxis.surgery.criteria.base import Criterion, Evidence, criterion_of, unit_scores

__all__ = ["Criterion", "Evidence", "criterion_of", "unit_scores"]
