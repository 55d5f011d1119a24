"""Steps, the fan-out to listeners, the estimate of what is left, and what a training tells, all by a clock of our own."""

from __future__ import annotations

import logging

import pytest
from clock import FakeClock, Heard

from triaxis.progress import Meter, Moment, Progress, Step, roughly


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_every_listener_hears_a_stage_from_its_begin_to_its_end(clock: FakeClock) -> None:
    first, second = Heard(), Heard()
    with Progress(first, second, clock=clock).stage("base") as advance:
        clock.wait(4)
        advance(0.25, "training", Moment(epoch=1, num_epochs=4, loss=2.5, images_per_second=100.0))
    assert first.steps == second.steps
    assert [step.event for step in first.steps] == ["begin", "step", "end"]
    step = first.steps[1]
    assert (step.stage, step.share, step.note, step.epoch, step.loss, step.seconds) == ("base", 0.25, "training", 1, 2.5, 4)
    assert first.last.share == 1.0


def test_a_stage_that_fails_says_where_it_was_and_lets_the_error_through() -> None:
    heard = Heard()

    def stopped() -> None:
        with Progress(heard).stage("collect") as advance:
            advance(0.5, "")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (heard.last.event, heard.last.share) == ("error", 0.5)


def test_a_listener_that_raises_is_warned_of_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Heard):
        def hear(self, step: Step) -> None:
            super().hear(step)
            raise OSError("no space left")

    broken, heard = Broken(), Heard()
    with caplog.at_level(logging.WARNING), Progress(broken, heard).stage("base") as advance:
        advance(0.5, "")
        advance(0.6, "")
    assert len(broken.steps) == 1 and len(heard.steps) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "Broken is told of no more progress, because it raised OSError: no space left"
    ]


def test_ctrl_c_in_a_listener_is_still_ctrl_c() -> None:
    class Interrupting(Heard):
        def hear(self, step: Step) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Progress(Interrupting()).stage("base"):
        pass


def test_listeners_that_join_for_a_while_are_closed_even_after_an_error() -> None:
    guest, host = Heard(), Heard()
    progress = Progress(host)

    def failing() -> None:
        with progress.joined_by(guest):
            with progress.stage("one"):
                pass
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    with progress.stage("two"):
        pass
    assert guest.is_closed and not host.is_closed
    assert {step.stage for step in guest.steps} == {"one"} and {step.stage for step in host.steps} == {"one", "two"}


def test_time_left_is_what_is_to_do_at_the_speed_that_was_measured(clock: FakeClock) -> None:
    heard = Heard()
    progress = Progress(heard, clock=clock)
    progress.expect({"base": 10.0, "collect": 20.0, "prune": 5.0})
    with progress.stage("base") as advance:
        assert heard.last.stage_left_s is None and heard.last.run_left_s is None  # nothing is known yet
        advance(0.0, "")
        clock.wait(30)
        advance(0.25, "")
        # 2.5 of 10 took 30 s, so 12 s a unit: 7.5 units are left here, 25 elsewhere.
        assert heard.last.stage_left_s == pytest.approx(90) and heard.last.run_left_s == pytest.approx(390)
        clock.wait(90)
        advance(1.0, "")
    with progress.stage("load") as advance:  # expected by nobody: what is left is what the others have
        advance(0.5, "")
        assert heard.last.run_left_s == pytest.approx(25 * 12)
    with progress.stage("collect") as advance:
        advance(0.0, "")
        assert heard.last.stage_left_s == pytest.approx(240) and heard.last.run_left_s == pytest.approx(300)
        clock.wait(60)
        advance(0.5, "")
        # Twice as fast as foretold: its own rest at its own speed, the rest at the speed of all that was done.
        assert heard.last.stage_left_s == pytest.approx(60) and heard.last.run_left_s == pytest.approx(60 + 5 * 180 / 20)
        advance(1.0, "")
    with progress.stage("prune") as advance:
        advance(1.0, "")
    assert heard.last.run_left_s == 0


def test_what_an_earlier_process_did_does_not_count_as_speed(clock: FakeClock) -> None:
    heard = Heard()
    with Progress(heard, clock=clock).stage("base") as advance:
        clock.wait(1)
        advance(0.9, "")
        assert heard.last.stage_left_s is None
        clock.wait(10)
        advance(0.95, "")
    assert heard.steps[-2].stage_left_s == pytest.approx(10)


def told(meter_steps: int, clock: FakeClock, seconds: float, *, epochs: int, losses: list[float], batch_size: int = 10) -> list[Moment]:
    moments: list[Moment] = []
    meter = Meter(lambda share, moment: moments.append(moment), epochs=epochs, batch_size=batch_size, clock=clock)
    for step in range(1, meter_steps + 1):
        clock.wait(seconds)
        meter(step, meter_steps, losses[(step - 1) % len(losses)])
    return moments


def test_what_a_stage_prepares_does_not_count_as_speed(clock: FakeClock) -> None:
    """The stage that measures costs counts for 9 s first; 69 cuts of 0.15 s each take 10 s then, not ten minutes."""
    heard = Heard()
    with Progress(heard, clock=clock).stage("cost") as advance:
        advance(0.0, "counting MACs and parameters of every cut")
        clock.wait(9.0)
        advance(0.0, "latency_ms of 69 cuts")
        clock.wait(0.15)
        advance(1 / 69, "latency_ms of 69 cuts")
        assert heard.last.stage_left_s == pytest.approx(68 * 0.15)


def test_a_training_tells_epoch_loss_and_speed(clock: FakeClock) -> None:
    moments = told(6, clock, 0.1, epochs=2, losses=[3.0, 2.0, 1.0, 6.0, 4.0, 2.0])
    assert [moment.event for moment in moments] == ["step", "step", "epoch"] * 2
    assert [moment.epoch for moment in moments] == [1, 1, 1, 2, 2, 2] and {moment.num_epochs for moment in moments} == {2}
    assert moments[1].loss is None  # nothing is read from the device before there is a reason
    assert moments[2].loss == pytest.approx(2.0) and moments[5].loss == pytest.approx(4.0)
    assert moments[2].images_per_second == pytest.approx(3 * 10 / 0.3)


def test_a_long_epoch_tells_its_loss_every_second(clock: FakeClock) -> None:
    moments = told(100, clock, 0.5, epochs=1, losses=[4.0, 2.0])
    assert moments[0].loss is None and moments[1].loss == pytest.approx(3.0)
    assert moments[1].images_per_second == pytest.approx(20.0)


class Counted:
    """A loss that says how often it was waited for."""

    reads = 0

    def __radd__(self, other: object) -> Counted:
        return self

    __add__ = __radd__

    def __float__(self) -> float:
        Counted.reads += 1
        return 1.0


def test_the_device_is_waited_for_once_an_epoch_where_steps_are_short(clock: FakeClock) -> None:
    Counted.reads = 0
    told(200, clock, 0.001, epochs=2, losses=[Counted()])  # type: ignore[list-item]
    assert Counted.reads == 2


def test_a_training_that_goes_on_tells_the_epoch_it_is_in(clock: FakeClock) -> None:
    moments: list[tuple[float, Moment]] = []
    meter = Meter(lambda share, moment: moments.append((share, moment)), epochs=4, batch_size=1, clock=clock)
    meter(31, 40, 1.0)
    assert moments[0][0] == pytest.approx(31 / 40) and moments[0][1].epoch == 4


def test_a_step_is_one_line_and_survives_json() -> None:
    step = Step(
        stage="collect",
        share=0.374,
        note="width w=0.5",
        trial=4,
        num_trials=10,
        epoch=2,
        num_epochs=4,
        loss=0.41234,
        images_per_second=1234.5,
        stage_left_s=200.0,
        run_left_s=7800.0,
    )
    assert str(step) == (
        "collect 37%, trial 4 of 10, width w=0.5, epoch 2 of 4, loss 0.4123, 1,234 images/s, ~3 min left of collect, ~2 h 10 min of the run"
    )
    assert Step.from_json(step.to_json()) == step
    assert Step.from_json({**step.to_json(), "pid": 3, "schema": 1}) == step
    assert Step(stage="base", loss=float("nan")).to_json()["loss"] is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (42.4, "42 s"),
        (89.9, "90 s"),
        (185, "3 min"),
        (7800, "2 h 10 min"),
        (47.5 * 3600, "47 h 30 min"),
        (3e5, "3 days 11 h"),
    ],
)
def test_times_are_rough(seconds: float, words: str) -> None:
    assert roughly(seconds) == words
