"""The values that pass between the stages; one import gives them all.

base       Value: frozen, self-checking, JSON out and in
plan       KeepRatios, ChannelCut, PrunePlan, and what a model offers: Anatomy, BlockInfo, GroupInfo
trial      Recipe, TrialSpec, TrialResult: DoneTrial or FailedTrial, Point
metric     MetricSpec: how a metric is named, read and shown
budget     Budget, BudgetSpec
costs      CostTable
predictor  AccuracyPredictor, FitReport
solution   Solution, ContinuousOptimum, Measured, BudgetCheck, Verification
"""

from __future__ import annotations

from triaxis.values.base import AXES, SCHEMA, Axis, Value, canonical_json, digest, require
from triaxis.values.budget import Budget, BudgetSpec, parse_budgets
from triaxis.values.costs import CostTable
from triaxis.values.metric import METRICS, MetricSpec, metric_named, metric_spec
from triaxis.values.plan import Anatomy, BlockInfo, ChannelCut, GroupInfo, KeepRatios, PrunePlan
from triaxis.values.predictor import AccuracyPredictor, FitReport
from triaxis.values.solution import BudgetCheck, ContinuousOptimum, Measured, Solution, Verification
from triaxis.values.trial import DoneTrial, FailedTrial, Point, Recipe, TrialResult, TrialSpec, done_trials, trial_result

__all__ = [
    "AXES",
    "METRICS",
    "SCHEMA",
    "AccuracyPredictor",
    "Anatomy",
    "Axis",
    "BlockInfo",
    "Budget",
    "BudgetCheck",
    "BudgetSpec",
    "ChannelCut",
    "ContinuousOptimum",
    "CostTable",
    "DoneTrial",
    "FailedTrial",
    "FitReport",
    "GroupInfo",
    "KeepRatios",
    "Measured",
    "MetricSpec",
    "Point",
    "PrunePlan",
    "Recipe",
    "Solution",
    "TrialResult",
    "TrialSpec",
    "Value",
    "Verification",
    "canonical_json",
    "digest",
    "done_trials",
    "metric_named",
    "metric_spec",
    "parse_budgets",
    "require",
    "trial_result",
]
