"""A store that lives as long as the process: for tests, and for users who keep nothing."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

from triaxis.errors import StoreError
from triaxis.store.base import check_final
from triaxis.values import TrialResult, canonical_json, trial_result


class MemoryStore:
    """Keeps everything as JSON text, so that what is read is a copy, as it is from a disk."""

    def __init__(self) -> None:
        self._trials: dict[str, str] = {}
        self._records: dict[str, str] = {}

    def put_trial(self, result: TrialResult) -> None:
        """Commit one result; see `Store`."""
        if check_final(self.trial(result.trial_id), result):
            self._trials.pop(result.trial_id, None)
            self._trials[result.trial_id] = to_text(result.to_json())

    def trial(self, trial_id: str) -> TrialResult | None:
        """Return one result, or None."""
        text = self._trials.get(trial_id)
        return None if text is None else trial_result(json.loads(text))

    def trials(self) -> tuple[TrialResult, ...]:
        """Return all results in the order of commit."""
        return tuple(trial_result(json.loads(text)) for text in self._trials.values())

    def put_record(self, key: str, plain: Any) -> None:
        """Commit plain JSON data under a key; see `Store`."""
        self._records[key] = to_text(plain)

    def record(self, key: str) -> Any:
        """Return the plain data of a key, or None."""
        text = self._records.get(key)
        return None if text is None else json.loads(text)

    def close(self) -> None:
        """Do nothing: there are no files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def to_text(plain: Any) -> str:
    """Return the JSON text of plain data.

    Raises:
        StoreError: The data hold something that JSON does not, such as NaN or a tensor.
    """
    try:
        return canonical_json(plain)
    except (TypeError, ValueError) as error:
        raise StoreError(f"A store keeps plain JSON data only, got something else: {error}.") from None
