"""Any history of writes leaves every store in the state that a plain model of the contract predicts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from triaxis.errors import StoreError
from triaxis.store import MemoryStore, open_store
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import FailedTrial, TrialResult

SPECS = chain_specs()[:4]
DONE = [FakeTrainer()(spec) for spec in SPECS]
RESULTS = [
    *DONE,
    *(dataclasses.replace(result, val_accuracy=0.25) for result in DONE[:2]),
    *(FailedTrial(spec=spec, error="broke") for spec in SPECS[:2]),
]

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
writes = st.lists(
    st.tuples(st.just("trial"), st.sampled_from(RESULTS))
    | st.tuples(st.just("record"), st.tuples(st.sampled_from(["config", "plan", "a key with ' and µ"]), plain))
    | st.tuples(st.just("reopen"), st.none()),
    max_size=15,
)


@settings(max_examples=40, deadline=None)
@given(writes)
def test_memory_and_sqlite_agree_with_the_contract(tmp_path_factory, history) -> None:
    path: Path = tmp_path_factory.mktemp("store") / "store.sqlite"
    trials: dict[str, TrialResult] = {}
    records: dict[str, object] = {}
    memory, disk = MemoryStore(), open_store(path)
    for kind, item in history:
        if kind == "reopen":
            disk.close()
            disk = open_store(path)
        elif kind == "record":
            records[item[0]] = item[1]
            memory.put_record(*item)
            disk.put_record(*item)
        else:
            old = trials.get(item.trial_id)
            is_refused = old is not None and old.state == "done" and old != item
            for store in (memory, disk):
                try:
                    store.put_trial(item)
                    assert not is_refused
                except StoreError:
                    assert is_refused
            if old is None or old.state == "failed":
                trials.pop(item.trial_id, None)
                trials[item.trial_id] = item
    for store in (memory, disk):
        assert store.trials() == tuple(trials.values())
        assert all(store.record(key) == item for key, item in records.items())
        assert all(store.trial(spec.trial_id) == trials.get(spec.trial_id) for spec in SPECS)
    disk.close()
