"""Two and three processes that train together give what one gives: started once each, all cases one after the other."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from triaxis.data.parts import block_of, fewest_rows, rows_of
from triaxis.process.ranks import ALONE

HERE = Path(__file__).parent


def module(name: str) -> Any:
    """Import a file beside this one, which is no test."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


launched, at_work = module("launched"), module("ranks_at_work")
SIZES = (2, 3)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, list[dict[str, Any]]]:
    """What each rank has, by the number of ranks."""
    places = {size: tmp_path_factory.mktemp("ranks") / str(size) for size in SIZES}
    for place in places.values():
        place.mkdir()
    started = {size: launched.forked(size, HERE / "ranks_at_work.py", place) for size, place in places.items()}
    assert {size: launched.joined(processes) for size, processes in started.items()} == {size: [0] * size for size in SIZES}
    return {size: [torch.load(place / f"{rank}.pt") for rank in range(size)] for size, place in places.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[int, dict[str, Any]]:
    """The same in one process, which trains networks with batch norm in as many parts."""
    torch.set_num_threads(1)
    results = {}
    for size in SIZES:
        place = tmp_path_factory.mktemp("alone") / str(size)
        place.mkdir()
        results[size] = at_work.everything(ALONE, place)
    return results


def largest_gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", [*at_work.RECIPES, "streamed", "foreign", "norm"])
def test_the_same_batches_give_the_same_weights(found, alone, size, case):
    for rank in found[size]:
        assert largest_gap(rank[case]["weights"], found[size][0][case]["weights"]) == 0, "all ranks end with the same"
    assert largest_gap(found[size][0][case]["weights"], alone[size][case]["weights"]) < 1e-5
    untrained = at_work.weights(at_work.network())
    assert (found[size][0][case]["weights"]["1.weight"] - untrained["1.weight"]).abs().max() > 1e-3, "it has learnt something"


@pytest.mark.parametrize("size", SIZES)
def test_the_loss_that_is_shown_is_that_of_the_whole_batch(found, alone, size):
    assert found[size][0]["plain"]["losses"] == pytest.approx(alone[size]["plain"]["losses"], abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_a_score_is_the_same_to_the_last_bit(found, alone, size):
    for rank in found[size]:
        assert rank["looked at"]["score"] == alone[size]["looked at"]["score"]
        assert rank["looked at"]["loss"] == alone[size]["looked at"]["loss"]


@pytest.mark.parametrize("size", SIZES)
def test_gradients_and_statistics_are_those_of_all_images(found, alone, size):
    for rank in found[size]:
        for key in ("gradients", "statistics"):
            assert largest_gap(rank["looked at"][key], alone[size]["looked at"][key]) < 1e-5
            assert largest_gap(rank["looked at"][key], found[size][0]["looked at"][key]) == 0


@pytest.mark.parametrize("size", SIZES)
def test_stopped_by_a_signal_to_one_rank_all_go_on_at_that_step(found, size):
    for rank in found[size]:
        assert largest_gap(rank["whole"]["weights"], rank["resumed"]["weights"]) == 0, "dropout and mixup go on where they were"
        assert 0 < rank["resumed"]["steps"] < rank["whole"]["steps"] == 20


@pytest.mark.parametrize("size", SIZES)
def test_where_one_has_too_little_memory_all_halve_their_batch(found, alone, size):
    parts = found[size][0]["out of memory"]["parts"]
    assert len(set(parts)) == 1 and parts[0] > 1
    assert largest_gap(found[size][0]["out of memory"]["weights"], alone[size]["plain"]["weights"]) < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_what_fails_on_one_rank_is_said_by_all_and_they_can_go_on(found, size):
    for rank in found[size]:
        nan, unreadable = rank["failed"]["said"]
        assert "loss must be finite" in nan
        assert ("OSError: image" in unreadable and f"rank {size - 1} of {size}" in unreadable) or rank is found[size][-1]
    assert found[size][0]["failed"]["after"] == [size - 1] * size


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("num_rows", [10, 11, 12, 31])
def test_the_rows_of_all_parts_are_all_rows_and_partners_stay_together(parts, num_rows):
    rows = [rows_of(part, parts, num_rows) for part in range(parts)]
    assert sorted(torch.cat(rows).tolist()) == list(range(num_rows))
    for own in rows:
        assert len(own) >= 2 and torch.equal(own + own.flip(0), torch.full_like(own, num_rows - 1))
    assert fewest_rows(parts, num_rows) == min(map(len, rows)) and max(map(len, rows)) - min(map(len, rows)) <= 2
    assert rows_of(0, 1, num_rows).tolist() == list(range(num_rows))
    blocks = [block_of(part, parts, num_rows) for part in range(parts)]
    assert blocks[0][0] == 0 and blocks[-1][1] == num_rows and all(a[1] == b[0] for a, b in itertools.pairwise(blocks))
