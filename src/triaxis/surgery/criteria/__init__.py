"""Criteria: how much a channel matters, one class each; see `base` for what they must do."""

from __future__ import annotations

from triaxis.errors import ConfigError
from triaxis.plugins import find_part
from triaxis.surgery.criteria.base import Criterion, Evidence, unit_scores
from triaxis.surgery.criteria.control import Random
from triaxis.surgery.criteria.norms import L1, L2
from triaxis.surgery.criteria.scales import BatchNormScale
from triaxis.surgery.criteria.taylor import Taylor

__all__ = ["BOX", "Criterion", "Evidence", "criterion_of", "unit_scores"]

BOX: dict[str, type[Criterion]] = {"l1": L1, "l2": L2, "bn": BatchNormScale, "taylor": Taylor, "random": Random}
"""The criteria that come with triaxis, by name."""


def criterion_of(importance: str | Criterion) -> Criterion:
    """Return the criterion of a name: one of the box, an installed one's, or ``package.module:Name``.

    Raises:
        ConfigError: There is none of this name, or what it names is no criterion.
    """
    made = _made(importance) if isinstance(importance, str) else importance
    if not isinstance(made, Criterion):
        raise ConfigError(f"The criterion {importance} must have needs_gradients and scores(group, evidence), got {type(made).__name__}.")
    return made


def _made(name: str) -> object:
    maker = find_part("criterion", name, BOX, setting="width.importance")
    try:
        return maker()
    except Exception as error:  # code of the user's own may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"The criterion {name} must be a class or function that can be called without arguments, got {reason}."
        ) from error
