"""The trials that are under way, and how far they are all together: what a stage tells of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from triaxis.progress import Advance, Moment, RunningTrial
from triaxis.values import DoneTrial, TrialResult, TrialSpec


@dataclass
class UnderWay:
    """Adds up what trials tell.

    Args:
        advance: Told the share that is done of all trials.
        specs: The trials.
        places: The number of each by its id, as a moment.
        effort: A trial's expected effort, in any one unit.
        done: The effort of those that were measured before.
    """

    advance: Advance
    specs: Sequence[TrialSpec]
    places: Mapping[str, Moment]
    effort: Callable[[TrialSpec], float]
    done: float = 0.0
    running: dict[str, RunningTrial] = field(default_factory=dict)
    efforts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.total = sum(self.effort(spec) for spec in self.specs)

    def hear(self, spec: TrialSpec, share: float, moment: Moment, place: str) -> None:
        """Take in how far one trial is, and on which machine, empty for this process."""
        at = self.places[spec.trial_id]
        what = f"{spec.axis} {spec.target}"
        self.running[spec.trial_id] = RunningTrial(trial=at.trial, what=what, share=share, place=place)
        self.efforts[spec.trial_id] = self.effort(spec)
        note = f"{what} on {place}" if place else what
        self._tell(note, dataclasses.replace(moment, trial=at.trial, num_trials=at.num_trials, running=self._elsewhere()))

    def ended(self, result: TrialResult, words: str) -> None:
        """Take in that a trial has its result."""
        self.running.pop(result.trial_id, None)
        self.efforts.pop(result.trial_id, None)
        self.done += self.effort(result.spec)
        accuracy = result.val_accuracy if isinstance(result, DoneTrial) else None
        moment = dataclasses.replace(self.places[result.trial_id], event="result", val_accuracy=accuracy, running=self._elsewhere())
        self._tell(f"{result.spec.axis} {words}", moment)

    def _elsewhere(self) -> tuple[RunningTrial, ...]:
        return tuple(trial for trial in self.running.values() if trial.place)

    def _tell(self, note: str, moment: Moment) -> None:
        part = sum(self.efforts[trial_id] * trial.share for trial_id, trial in self.running.items())
        self.advance((self.done + part) / self.total, note, moment)
