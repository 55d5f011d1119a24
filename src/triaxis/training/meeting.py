"""What the ranks of a training tell each other once in a step: whether it fits in memory, whether to stop or to save."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from triaxis.errors import ConfigError, TrainingError
from triaxis.process.interrupt import requested
from triaxis.process.ranks import Ranks
from triaxis.values import Recipe


class Meeting:
    """The ranks of one training.

    `is_stopping` says whether a signal has asked any of them to stop, as all know since the last step; alone, a process knows at once.
    """

    def __init__(self, ranks: Ranks, save_s: float) -> None:
        self.ranks, self._save_s = ranks, save_s
        self._saved_at = time.monotonic()
        self._is_stopping, self._is_save_due = False, False

    @property
    def is_stopping(self) -> bool:
        """Whether the training is to stop before its next step."""
        return requested() if self.ranks.is_alone else self._is_stopping

    @property
    def is_save_due(self) -> bool:
        """Whether it is time to save: by the leader's clock."""
        return self._is_late() if self.ranks.is_alone else self._is_save_due

    def _is_late(self) -> bool:
        return time.monotonic() - self._saved_at >= self._save_s

    def saved(self) -> None:
        """Note that the state is saved now."""
        self._saved_at = time.monotonic()

    def end_epoch(self) -> bool:
        """Meet at the end of an epoch, and return whether the training is to stop."""
        self._is_stopping = self.ranks.any("end of epoch", requested())
        return self._is_stopping

    def fits(self, gradients: Sequence[Tensor] | None) -> bool:
        """Return whether no rank is out of memory; `gradients` are this rank's, None where it is.

        Raises:
            TrainingError: The ranks have gradients of different weights.
        """
        if self.ranks.is_alone:
            return gradients is not None
        found = self.ranks.agree("step", int(gradients is not None), int(requested()), int(self._is_late()), len(gradients or ()))
        self._is_stopping, self._is_save_due = any(one[1] for one in found), bool(found[0][2])
        if not all(one[0] for one in found):
            return False
        if len({one[3] for one in found}) > 1:
            raise TrainingError(
                "A network that several ranks train must use the same weights for every picture, but this one got gradients of others "
                "on one rank than on another: train it in one process."
            )
        return True

    def added(self, loss: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        """Return the loss of the whole batch, and put its gradients in place, from those of each rank's part."""
        if self.ranks.is_alone:
            return loss
        total = loss.float().reshape(1)
        self.ranks.add([*gradients, total])
        return total[0]


def require_rows(recipe: Recipe, ranks: Ranks) -> None:
    """Check that each rank has two images of a batch, which batch norm needs.

    Raises:
        ConfigError: It has not.
    """
    if recipe.batch_size < 2 * ranks.size:
        raise ConfigError(
            f"batch_size must be at least two images for each of {ranks.size} ranks, got {recipe.batch_size}: "
            f"raise it to {2 * ranks.size} or more, or start fewer processes."
        )
