"""A clock that is told what time it is, and listeners that remember."""

from __future__ import annotations

from triaxis.progress import Step


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Heard:
    """Keeps every step."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.is_closed = False

    def hear(self, step: Step) -> None:
        self.steps.append(step)

    def close(self) -> None:
        self.is_closed = True

    @property
    def last(self) -> Step:
        return self.steps[-1]
