"""What every store must do; a subclass gives the fixture `make_store`, a function that opens the same place anew."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from triaxis.errors import StoreError
from triaxis.store.base import Store
from triaxis.testing.trainer import FakeTrainer, chain_specs
from triaxis.values import DoneTrial, FailedTrial, TrialSpec

MakeStore = Callable[[], Store]


def _results(num: int = 4) -> list[DoneTrial]:
    trainer = FakeTrainer()
    return [trainer(spec) for spec in chain_specs()[:num]]


def _failed(spec: TrialSpec, error: str = "it broke") -> FailedTrial:
    return FailedTrial(spec=spec, error=error)


class StoreContract:
    """Subclass it under a name that pytest collects. `make_store` must be overridden."""

    survives_reopening = True

    @pytest.fixture
    def make_store(self, tmp_path: Any) -> MakeStore:
        """Return a function that opens the store; a second call opens the same one."""
        raise NotImplementedError

    def test_an_empty_store_has_nothing(self, make_store: MakeStore) -> None:
        with make_store() as store:
            assert store.trials() == ()
            assert store.trial("0" * 16) is None
            assert store.record("config") is None

    def test_a_result_comes_back_equal(self, make_store: MakeStore) -> None:
        result = _results(2)[1]
        with make_store() as store:
            store.put_trial(result)
            assert store.trial(result.trial_id) == result

    def test_results_come_in_the_order_of_commit(self, make_store: MakeStore) -> None:
        results = _results()[::-1]
        with make_store() as store:
            for result in results:
                store.put_trial(result)
            assert store.trials() == tuple(results)

    def test_writing_a_result_again_changes_nothing(self, make_store: MakeStore) -> None:
        results = _results()
        with make_store() as store:
            for result in [*results, results[0]]:
                store.put_trial(result)
            assert store.trials() == tuple(results)

    def test_a_finished_trial_is_final(self, make_store: MakeStore) -> None:
        result = _results(1)[0]
        with make_store() as store:
            store.put_trial(result)
            for other in (dataclasses.replace(result, val_accuracy=0.5), _failed(result.spec)):
                with pytest.raises(StoreError, match=result.trial_id):
                    store.put_trial(other)
            assert store.trials() == (result,)

    def test_a_failed_trial_can_be_replaced_and_counts_anew(self, make_store: MakeStore) -> None:
        first, second = _results(2)
        with make_store() as store:
            store.put_trial(_failed(first.spec))
            store.put_trial(second)
            store.put_trial(_failed(first.spec, "it broke again"))
            assert [trial.state for trial in store.trials()] == ["done", "failed"]
            store.put_trial(first)
            assert store.trials() == (second, first)

    def test_a_record_is_replaced(self, make_store: MakeStore) -> None:
        with make_store() as store:
            store.put_record("seconds", {"collect": 1.5})
            store.put_record("seconds", {"collect": 1.5, "fit": 0.25, "note": "µs"})
            assert store.record("seconds") == {"collect": 1.5, "fit": 0.25, "note": "µs"}

    def test_changing_what_was_read_or_written_changes_nothing(self, make_store: MakeStore) -> None:
        with make_store() as store:
            written = {"list": [1, 2]}
            store.put_record("config", written)
            written["list"].append(3)
            store.record("config")["list"].append(4)
            assert store.record("config") == {"list": [1, 2]}

    @pytest.mark.parametrize("bad", [math.nan, object(), {1, 2}])
    def test_only_plain_json_is_kept(self, make_store: MakeStore, bad: object) -> None:
        with make_store() as store:
            store.put_record("config", {"fine": 1})
            with pytest.raises(StoreError):
                store.put_record("config", {"bad": bad})
            assert store.record("config") == {"fine": 1}

    def test_closing_twice_does_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        store.close()
        store.close()

    def test_everything_is_there_after_reopening(self, make_store: MakeStore) -> None:
        if not self.survives_reopening:
            pytest.skip("this store lives as long as the process")
        results = _results()
        with make_store() as store:
            for result in results:
                store.put_trial(result)
            store.put_record("config", {"seed": 3})
        with make_store() as store:
            assert store.trials() == tuple(results)
            assert store.record("config") == {"seed": 3}
