"""What the records of a run look like, and the check of one that was read: a damaged store is said to be one.

Version 0.1 wrote every field that is asked for here; fields and keys that are not named may hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from triaxis.errors import StoreError, TriaxisError
from triaxis.values import (
    AccuracyPredictor,
    Anatomy,
    BudgetCheck,
    CostTable,
    FitReport,
    PrunePlan,
    Solution,
    TrialResult,
    Value,
    Verification,
    trial_result,
)

V = TypeVar("V", bound=Value)

NUMBER = (int, float)
REMEDY = "put a copy of the store back, or choose another run directory"

SHAPES: dict[str, Any] = {
    "config": {},
    "environment": {"mode": {"precision": str, "memory_format": str}},
    "anatomy": Anatomy,
    "base": {"val_accuracy": NUMBER, "macs": NUMBER, "train_macs": NUMBER},
    "first_block_order": [str],
    "block_order": [str],
    "first_cost_table": CostTable,
    "cost_table": CostTable,
    "off_axis_levels": [[int]],
    "predictor": AccuracyPredictor,
    "fit_report": FitReport,
    "collection": {"num_trials": int, "cost_ratio": (int, float, type(None))},
    "solution": Solution,
    "plan": PrunePlan,
    "final:": {"val_accuracy": NUMBER, "train_macs": NUMBER},
    "choice:": Solution,
    "checks:": [BudgetCheck],
    "verification": Verification,
    "verification:": Verification,
    "seconds": {str: NUMBER},
    "wall_seconds": NUMBER,
}
"""The shape of the record under each key, or under each key that begins so, where a colon ends it.

A type, a choice of types, a value that can be read, [the shape of each item], {str: the shape of each entry}, or {a name that
must be there: its shape}.
"""


def check_record(key: str, plain: Any, origin: str) -> None:
    """Make sure that a record has the shape that its key promises; None, no record, has every shape.

    Args:
        key: The record's.
        plain: What was read.
        origin: The file, for the sentence.

    Raises:
        StoreError: It has not; names the place in it.
    """
    head, colon, _ = key.partition(":")
    shape = SHAPES.get(head + colon)
    if plain is not None and shape is not None:
        _check(plain, shape, f"record {key} in {origin}")


def read_value(kind: type[V], plain: Any, name: str) -> V:
    """Return the value that a store's plain data describe.

    Raises:
        StoreError: They describe none; `name` says in the sentence what was read and where.
    """
    with _told(kind.__name__, name):
        return kind.from_json(plain)


def read_result(plain: Any, name: str) -> TrialResult:
    """Return the result of a trial that a store's plain data describe; raises as `read_value` does."""
    with _told("TrialResult", name):
        return trial_result(plain)


@contextmanager
def _told(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except (TriaxisError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise damaged(name, f"it must be a {kind}: {str(error).rstrip('.')}") from None


def damaged(name: str, reason: str) -> StoreError:
    """Return the error on a part of a store that is not as it was written."""
    return StoreError(f"The {name} is damaged, or another version of triaxis wrote it: {reason}; {REMEDY}.")


def _check(plain: Any, shape: Any, name: str) -> None:
    if isinstance(shape, type) and issubclass(shape, Value):
        read_value(shape, plain, name)
    elif isinstance(shape, list):
        _require(plain, list, name)
        for num, item in enumerate(plain):
            _check(item, shape[0], f"item {num} of the {name}")
    elif isinstance(shape, dict):
        _require(plain, dict, name)
        inner = dict.fromkeys(plain, shape[str]) if str in shape else shape
        for key, part in inner.items():
            if key not in plain:
                raise damaged(name, f"it must hold {key}, but holds {', '.join(sorted(plain)) or 'nothing'}")
            _check(plain[key], part, f"entry {key} of the {name}")
    else:
        _require(plain, shape, name)


def _require(plain: Any, kinds: type | tuple[type, ...], name: str) -> None:
    if not isinstance(plain, kinds):
        wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise damaged(name, f"it must be {wanted}, got {type(plain).__name__}")
