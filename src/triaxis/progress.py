"""How a long run tells how far it is: one frozen `Step` for each moment, handed to any number of listeners.

    stages -> advance(share, note, moment) -> Progress, which knows the clock and what is to come -> Step -> listeners

Nothing here can stop a run: a listener that raises is warned of once and heard no more.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Protocol

log = logging.getLogger(__name__)

Event = Literal["begin", "step", "epoch", "result", "end", "error"]
"""A stage begins; something moved on; an epoch is over; a training gave its accuracy; the stage ended, well or not."""

Clock = Callable[[], float]
"""Returns seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTrial:
    """A trial under way on the machine `place`: its number from 1, what it cuts, and the share that is done, in [0, 1]."""

    trial: int | None
    what: str
    share: float
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a stage says of a moment besides its share; None where it says nothing.

    `trial` of `num_trials` and `epoch` of `num_epochs` are under way, both counted from 1; `loss` is the mean training loss of
    late; `val_accuracy` is in [0, 1]; `running` are the trials that other processes are at.
    """

    event: Event = "step"
    trial: int | None = None
    num_trials: int | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    loss: float | None = None
    images_per_second: float | None = None
    val_accuracy: float | None = None
    running: tuple[RunningTrial, ...] = ()


STEP = Moment()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Moment):
    """How far a run is at one moment: what a listener hears.

    `share` of `stage` is done, in [0, 1]; it has taken `seconds` in this process. The two times left are estimates in seconds,
    None until something was measured. `score` is what `val_accuracy` is called.
    """

    stage: str
    share: float = 0.0
    note: str = ""
    seconds: float = 0.0
    stage_left_s: float | None = None
    run_left_s: float | None = None
    score: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {key: item if not isinstance(item, float) or math.isfinite(item) else None for key, item in asdict(self).items()}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Step:
        """Return the step that `to_json` wrote; keys that are not a step's own are left out."""
        found = {part.name: plain[part.name] for part in fields(cls) if part.name in plain}
        return cls(**{**found, "running": tuple(RunningTrial(**trial) for trial in found.get("running", ()))})

    def __str__(self) -> str:
        if self.event in ("end", "error"):
            return f"{self.stage} {'done' if self.event == 'end' else 'stopped'} after {roughly(self.seconds)}"
        return ", ".join((f"{self.stage} {self.share:.0%}", *self.details, *self.left))

    @property
    def details(self) -> tuple[str, ...]:
        """What happens, in words: trial, note, epoch, loss, images per second."""
        parts = (
            _of("trial", self.trial, self.num_trials),
            self.note,
            _of("epoch", self.epoch, self.num_epochs),
            f"loss {self.loss:.4g}" if self.loss is not None else "",
            f"{self.images_per_second:,.0f} images/s" if self.images_per_second is not None else "",
            f"val {self.score} {self.val_accuracy:.4f}" if self.val_accuracy is not None else "",
        )
        return tuple(part for part in parts if part)

    @property
    def left(self) -> tuple[str, ...]:
        """The two times left, in words; each is an estimate and says so."""
        stage = () if self.stage_left_s is None else (f"~{roughly(self.stage_left_s)} left of {self.stage}",)
        return stage if self.run_left_s is None else (*stage, f"~{roughly(self.run_left_s)} of the run")


def _of(name: str, number: int | None, total: int | None) -> str:
    return "" if number is None else f"{name} {number} of {total}" if total else f"{name} {number}"


def roughly(seconds: float) -> str:
    """Return a time as people say it: ``42 s``, ``3 min``, ``2 h 10 min``, ``4 days 3 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} days {hours % 24} h"


class Listener(Protocol):
    """Hears how far a run is: a bar, a file, an experiment tracker. It may raise; the run goes on without it then."""

    def hear(self, step: Step) -> None:
        """Take one step in. Called after each training step too, so do not do much unless `step.event` asks for it."""
        ...

    def close(self) -> None:
        """The run is over, well or not."""
        ...


class Advance(Protocol):
    """What a stage calls to tell how far it is."""

    def __call__(self, share: float, note: str, moment: Moment = ...) -> None:
        """Tell the share of the stage that is done, in [0, 1], a few words on what is happening, and the rest."""
        ...


Tell = Callable[[float, Moment], None]
"""What a training calls: its share, in [0, 1], and the moment."""


class Progress:
    """Times the stages, estimates what is left, and tells every listener; `score` is what a run's task calls its score."""

    def __init__(self, *listeners: Listener, clock: Clock = time.monotonic) -> None:
        self._listeners = list(listeners)
        self._clock = clock
        self._effort = _Effort()
        self.score = "accuracy"

    def expect(self, efforts: dict[str, float]) -> None:
        """Set what stages still have to do, in images x MACs or any one unit; where none is known, no time left is told."""
        self._effort.to_do.update(efforts)

    @contextmanager
    def joined_by(self, *listeners: Listener) -> Iterator[Progress]:
        """Let more listeners hear what happens within the context; they are closed at its end."""
        self._listeners += listeners
        try:
            yield self
        finally:
            for listener in listeners:
                self._tell(listener, "close")
                if listener in self._listeners:
                    self._listeners.remove(listener)

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Open one stage; the context's value is told how far it is."""
        start, at = self._clock(), 0.0
        span = self._effort.begin(name)

        def tell(share: float, note: str, moment: Moment) -> None:
            now = self._clock() - start
            if moment.event != "begin":
                span.reach(share, now)
            stage_left, run_left = span.seconds_left(), self._effort.seconds_left(span)
            said = {part.name: getattr(moment, part.name) for part in fields(moment)}
            step = Step(**said, stage=name, share=share, note=note, seconds=now, score=self.score)
            self._hear(replace(step, stage_left_s=stage_left, run_left_s=run_left))

        def advance(share: float, note: str, moment: Moment = STEP) -> None:
            nonlocal at
            at = share
            tell(share, note, moment)

        tell(0.0, "", Moment(event="begin"))
        try:
            yield advance
        except BaseException:
            tell(at, "", Moment(event="error"))
            raise
        self._effort.end(span)
        tell(1.0, "", Moment(event="end"))

    def _hear(self, step: Step) -> None:
        for listener in tuple(self._listeners):
            self._tell(listener, "hear", step)

    def _tell(self, listener: Listener, call: str, *arguments: Step) -> None:
        try:
            getattr(listener, call)(*arguments)
        except Exception as error:  # noqa: BLE001  (whatever a listener does, the run goes on)
            if listener in self._listeners:
                self._listeners.remove(listener)
            reason = str(error).partition("\n")[0]
            log.warning("%s is told of no more progress, because it raised %s: %s", type(listener).__name__, type(error).__name__, reason)


class Silent(Progress):
    """Has no listeners."""


@dataclass
class _Span:
    """One opening of a stage: (share, seconds) when it first told its share and now, and the efforts of all stages."""

    name: str
    efforts: _Effort
    first: tuple[float, float] | None = None
    last: tuple[float, float] = (0.0, 0.0)

    def reach(self, share: float, seconds: float) -> None:
        """Take in where the stage is.

        The share that it tells first was done by an earlier process, or before the clock ran. As long as it tells no more than
        that, it prepares, which says nothing of the speed of what follows.
        """
        if self.first is None or share <= self.first[0]:
            self.first = (share, seconds)
        self.last = (share, seconds)

    @property
    def gained(self) -> float:
        """Share of the stage that was done in this process."""
        return max(0.0, self.last[0] - self.first[0]) if self.first else 0.0

    @property
    def seconds(self) -> float:
        """Time in which that share was done."""
        return self.last[1] - self.first[1] if self.first else 0.0

    @property
    def to_do(self) -> float:
        """Effort that is left."""
        return self.efforts.to_do.get(self.name, 0.0) * (1 - self.last[0])

    @property
    def done(self) -> float:
        """Effort that was made in this process."""
        return self.efforts.to_do.get(self.name, 0.0) * self.gained

    def seconds_left(self) -> float | None:
        """The time left at the stage's own speed, else at that of the stages before."""
        if self.gained > 0:
            return (1 - self.last[0]) * self.seconds / self.gained
        speed = self.efforts.speed(self)
        return self.to_do / speed if speed and self.name in self.efforts.to_do else None


@dataclass
class _Effort:
    """What each stage has to do, and what was done in how many seconds."""

    to_do: dict[str, float] = field(default_factory=dict)
    done: float = 0.0
    seconds: float = 0.0

    def begin(self, name: str) -> _Span:
        """Open a stage."""
        return _Span(name, self)

    def end(self, span: _Span) -> None:
        """Close a stage: what it did counts for the speed, and nothing of it is left."""
        if span.done > 0:
            self.done, self.seconds = self.done + span.done, self.seconds + span.seconds
        if span.name in self.to_do:
            self.to_do[span.name] = 0.0

    def speed(self, span: _Span) -> float:
        """Effort per second over everything that was measured; 0 if nothing was."""
        done, seconds = self.done, self.seconds
        if span.done > 0:
            done, seconds = done + span.done, seconds + span.seconds
        return done / seconds if seconds > 0 else 0.0

    def seconds_left(self, span: _Span) -> float | None:
        """The time left of the stages that are expected, the open one at its own speed."""
        others = sum(effort for name, effort in self.to_do.items() if name != span.name)
        speed = self.speed(span)
        if not self.to_do or not speed:
            return None
        own = span.seconds_left() if span.name in self.to_do else 0.0
        return None if own is None else own + others / speed


class Meter:
    """Turns the steps of one training into moments: epoch, mean loss and images per second of late."""

    REFRESH_S = 1.0
    """Reading the loss waits for the device, so it is read at the end of an epoch and no more than once in this time."""

    def __init__(self, advance: Tell, *, epochs: int, batch_size: int, clock: Clock = time.monotonic) -> None:
        self._advance, self._epochs, self._batch_size = advance, epochs, batch_size
        self._moment, self._clock = STEP, clock
        self._since, self._count, self._loss = clock(), 0, 0.0

    def __call__(self, step: int, num_steps: int, loss: Any) -> None:
        """Take one training step in; `loss` is a number or a tensor of one, not yet waited for."""
        per_epoch = max(1, num_steps // max(1, self._epochs))
        is_epoch = step % per_epoch == 0
        self._loss, self._count = self._loss + loss, self._count + 1
        now = self._clock()
        if is_epoch or now - self._since >= self.REFRESH_S:
            self._refresh(now)
        epoch = min(self._epochs, (step - 1) // per_epoch + 1)
        event: Event = "epoch" if is_epoch else "step"
        self._advance(step / num_steps, replace(self._moment, event=event, epoch=epoch, num_epochs=self._epochs))

    def _refresh(self, now: float) -> None:
        seconds = now - self._since
        speed = self._count * self._batch_size / seconds if seconds > 0 else None
        self._moment = replace(self._moment, loss=float(self._loss) / self._count, images_per_second=speed)
        self._since, self._count, self._loss = now, 0, 0.0
