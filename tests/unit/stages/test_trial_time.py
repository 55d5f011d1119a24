"""A trial's time: in its record, in the collection's, and absent from the records of earlier versions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from triaxis.config import Config
from triaxis.errors import ConfigError
from triaxis.process.walltime import part
from triaxis.progress import Progress
from triaxis.stages.collect import record_cost
from triaxis.stages.context import Trainer
from triaxis.stages.timing import timed
from triaxis.store import MemoryStore
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.training.mode import Mode
from triaxis.values import FailedTrial, trial_result


def test_a_trial_of_an_earlier_version_still_reads() -> None:
    result = FakeTrainer()(chain_specs((0.9, 0.5))[0])
    old = result.to_json()
    assert old.pop("seconds_by_part") == {}
    assert trial_result(old) == result


def test_a_failed_trial_of_an_earlier_version_still_reads() -> None:
    """It kept the fields of both kinds, most of them null."""
    spec = chain_specs((0.9, 0.5))[0]
    nothing = dict.fromkeys(("plan", "val_accuracy", "val_interval", "val_loss", "macs", "params", "checkpoint"))
    old = {
        "schema": 1,
        "spec": spec.to_json(),
        "state": "failed",
        **nothing,
        "train_macs": 0.0,
        "seconds": 1.5,
        "error": "Traceback\nIt broke",
    }
    old["spec"].pop("schema")
    assert trial_result(old) == FailedTrial(spec=spec, seconds=1.5, error="Traceback\nIt broke")
    assert trial_result(old).reason == "It broke"


@pytest.mark.parametrize("change", [{"state": "half"}, {"val_accuracy": None}, {"plan": None}, {"state": "failed"}, {"val_accuracy": 1.5}])
def test_what_is_neither_done_nor_failed_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        trial_result(FakeTrainer()(chain_specs((0.9, 0.5))[0]).to_json() | change)


def test_the_collection_is_priced_in_time_beside_base_training() -> None:
    store = MemoryStore()
    store.put_record("base", {"macs": 100, "train_macs": 1000.0})
    store.put_record("seconds", {"base": 40.0})
    specs = chain_specs((0.9, 0.5))
    trials = [
        FailedTrial(spec=specs[0], seconds=6.0, seconds_by_part={"training": 4.0, "cutting": 1.0}),
        FailedTrial(spec=specs[1], seconds=4.0, seconds_by_part={"training": 2.0}),
    ]
    images = type("Few", (), {"__len__": lambda self: 64, "is_resident": True})()
    trainer = Trainer(device=torch.device("cpu"), mode=Mode(), folder=Path())
    run, data = SimpleNamespace(store=store, config=Config()), SimpleNamespace(splits=SimpleNamespace(train=images, val=images))
    record_cost(run, data, trainer, trials)  # type: ignore[arg-type]
    found = store.record("collection")
    assert found["time_ratio"] == pytest.approx(10 / 40)
    assert found["seconds_by_part"] == {"cutting": 1.0, "training": 6.0}
    store.put_record("base", {"macs": 100, "train_macs": 0.0})  # the base model came with its weights
    record_cost(run, data, trainer, trials)  # type: ignore[arg-type]
    assert store.record("collection")["time_ratio"] is None


def test_the_time_of_a_stage_that_is_stopped_counts_and_adds_up() -> None:
    store, work = MemoryStore(), part("training")(lambda: None)

    def stopped() -> None:
        with timed(store, Progress(), "base"):
            work()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    first = store.record("seconds")["base"]
    with timed(store, Progress(), "base"):
        work()
    assert store.record("seconds")["base"] > first > 0
    assert set(store.record("seconds_by_part")["base"]) == {"training"}
