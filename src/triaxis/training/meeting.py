"""What the ranks of a training tell each other once in a step: whether it fits in memory, whether to stop or to save."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from triaxis.errors import ConfigError, TrainingError
from triaxis.process.interrupt import requested
from triaxis.process.ranks import Ranks
from triaxis.values import Recipe


class Meeting:
    """The ranks of one training.

    `is_stopping` says whether a signal has asked any of them to stop, as all know since the last step; alone, a process knows at once.
    `is_save_due` says whether it was time to save, by the leader's clock, at the last step.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._is_stopping, self.is_save_due = False, False

    @property
    def is_stopping(self) -> bool:
        """Whether the training is to stop before its next step."""
        return requested() if self.ranks.is_alone else self._is_stopping

    def end_epoch(self, saves: bool) -> bool:
        """Meet at the end of an epoch, and return whether to save now: the leader wants to, or the training is to stop."""
        found = self.ranks.agree("end of epoch", int(requested()), int(saves))
        self._is_stopping = any(one[0] for one in found)
        return self._is_stopping or bool(found[0][1])

    def fits(self, fits: bool, num_gradients: int, is_late: bool) -> bool:
        """Return whether no rank is out of memory.

        Args:
            fits: Whether this one is not.
            num_gradients: How many weights have a gradient here.
            is_late: Whether it is time to save, by this rank's clock; the leader's counts.

        Raises:
            TrainingError: The ranks have gradients of different weights.
        """
        if self.ranks.is_alone:
            return fits
        found = self.ranks.agree("step", int(fits), int(requested()), int(is_late), num_gradients)
        self._is_stopping, self.is_save_due = any(one[1] for one in found), bool(found[0][2])
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
