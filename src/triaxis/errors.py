"""Every error triaxis raises on purpose.

    TriaxisError
    +-- ConfigError                 a setting is unknown, of the wrong type or out of range
    |   +-- ExperimentMismatchError a run directory belongs to another configuration
    +-- DataError                   images, labels or splits are unusable
    +-- UnsupportedModelError       a model cannot be loaded, traced or cut; names the module
    |   +-- PlanError               a prune plan does not fit the model it is applied to, or plan.json is damaged
    |   +-- RefusedModelError       a runtime or a device refuses a cut; the runtime's own words name the operator
    +-- InfeasibleBudgetError       no cut is cheap enough; names the smallest possible cost
    +-- FitError                    the trials do not determine the predictor
    +-- TrainingError               the loss became NaN or infinite, or training cannot start
    +-- StoreError                  the run directory cannot be read or written
    |   +-- StoreLockedError        another process is using the run directory
    +-- ExportError                 an exported file disagrees with the live model, or torch refuses to write it
    +-- DeviceError                 a device does not answer, or answers what cannot be; what was measured is kept
    +-- MissingDependencyError      an optional package is needed; names the extra
    +-- BudgetMissedError           the finished model measures over its budget; it is kept, and the sentence says by how much
    +-- LostRankError               one of several processes that train together is gone; the same command goes on
    +-- InterruptedRunError         a signal asked the run to stop; the same command goes on

A message says what must hold, what was got, where, and what to do next. Every error takes one
message string, so that it pickles, and an `InfeasibleBudgetError` what it knows beside it.
``exit_code`` is what the command line returns.
"""

from __future__ import annotations


class TriaxisError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class ConfigError(TriaxisError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 3


class ExperimentMismatchError(ConfigError):
    """The run directory was made with another configuration, other weights or other images; names what differs."""

    exit_code = 4


class DataError(TriaxisError):
    """Images, labels or splits are unusable."""

    exit_code = 5


class UnsupportedModelError(TriaxisError):
    """A model cannot be loaded, traced or cut; names the module and the reason."""

    exit_code = 6


class PlanError(UnsupportedModelError):
    """A prune plan does not fit the model it is applied to, or ``plan.json`` is damaged or asks for what it must not."""

    exit_code = 7


class RefusedModelError(UnsupportedModelError):
    """A runtime or a device refuses a cut; its own words name the operator. Other cuts go on."""

    exit_code = 16


class InfeasibleBudgetError(TriaxisError):
    """No possible cut is cheap enough; names the smallest possible cost.

    `metric` is the key of the metric whose budget no cut meets, and `smallest` the smallest possible cost in it, in the metric's
    unit; both are None where each budget alone is possible and only all at once are not.
    """

    exit_code = 8

    def __init__(self, message: str, metric: str | None = None, smallest: float | None = None) -> None:
        super().__init__(message, metric, smallest)
        self.metric, self.smallest = metric, smallest

    def __str__(self) -> str:
        return str(self.args[0])


class FitError(TriaxisError):
    """The trials do not determine the predictor; names the axis and what it needs."""

    exit_code = 9


class TrainingError(TriaxisError):
    """The loss became NaN or infinite, or training cannot start."""

    exit_code = 10


class StoreError(TriaxisError):
    """The run directory cannot be read or written."""

    exit_code = 11


class StoreLockedError(StoreError):
    """Another process is using the run directory."""

    exit_code = 12


class ExportError(TriaxisError):
    """An exported file disagrees with the live model, or torch refuses to write a format that was asked for."""

    exit_code = 13


class MissingDependencyError(TriaxisError):
    """An optional package is needed; the message names the extra that installs it."""

    exit_code = 14


class BudgetMissedError(TriaxisError):
    """The finished model measures over its budget; nothing is taken back, and the sentence says by how much."""

    exit_code = 15


class DeviceError(TriaxisError):
    """A device does not answer, or answers what cannot be; what was measured before is kept, and the same command goes on."""

    exit_code = 17


class LostRankError(TriaxisError):
    """One of several processes that train together is gone, so the others end too; what was saved is kept, the same command goes on."""

    exit_code = 18


class InterruptedRunError(TriaxisError):
    """A signal asked the run to stop; its state is saved, and the same command goes on."""

    exit_code = 20
