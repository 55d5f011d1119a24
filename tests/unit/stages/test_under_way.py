"""What trials side by side tell together."""

from __future__ import annotations

from triaxis.progress import STEP, Moment, RunningTrial
from triaxis.stages.under_way import UnderWay
from triaxis.testing import FakeTrainer, chain_specs


def test_shares_add_up_by_effort_and_running_trials_are_named() -> None:
    specs = chain_specs()[:4]
    places = {spec.trial_id: Moment(trial=n, num_trials=4) for n, spec in enumerate(specs, 1)}
    told: list[tuple[float, str, Moment]] = []
    found = UnderWay(lambda share, note, moment=STEP: told.append((share, note, moment)), specs, places, lambda spec: 2.0, done=2.0)
    found.hear(specs[1], 0.5, Moment(epoch=1), "node-a")
    found.hear(specs[2], 0.25, Moment(), "node-b")
    shares = [share for share, _, _ in told]
    assert shares == [3 / 8, 3.5 / 8]
    assert told[0][1].endswith("on node-a") and (told[0][2].trial, told[0][2].epoch, told[0][2].num_trials) == (2, 1, 4)
    assert [(t.trial, t.share, t.place) for t in told[1][2].running] == [(2, 0.5, "node-a"), (3, 0.25, "node-b")]
    found.ended(FakeTrainer()(specs[1]), "d=0.85")
    share, _, moment = told[-1]
    assert (share, moment.event, moment.trial) == (4.5 / 8, "result", 2) and moment.val_accuracy is not None
    assert [trial.place for trial in moment.running] == ["node-b"]


def test_a_trial_of_this_process_is_not_listed() -> None:
    specs = chain_specs()[:1]
    told: list[Moment] = []
    places = {specs[0].trial_id: Moment(trial=1, num_trials=1)}
    found = UnderWay(lambda share, note, moment=STEP: told.append(moment), specs, places, lambda spec: 1.0)
    found.hear(specs[0], 0.5, Moment(), "")
    assert told[0].running == ()
    assert isinstance(found.running[specs[0].trial_id], RunningTrial)
