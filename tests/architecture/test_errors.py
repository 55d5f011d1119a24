from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from triaxis import errors
from triaxis.errors import InfeasibleBudgetError, TriaxisError

ROOT = Path(__file__).parents[2]


def tree(kind: type[TriaxisError] = TriaxisError, depth: int = 0) -> Iterator[tuple[type[TriaxisError], int]]:
    yield kind, depth
    for child in kind.__subclasses__():
        if child.__module__ == "triaxis.errors":
            yield from tree(child, depth + 1)


CLASSES = list(tree())


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = []
    for line in (errors.__doc__ or "").splitlines():
        head, mark, rest = line.partition("+-- ")
        if mark:
            drawn.append((rest.split()[0], len(head) // 4))
    assert set(drawn) == {(kind.__name__, depth) for kind, depth in CLASSES[1:]}


def test_every_error_of_the_module_is_in_the_tree() -> None:
    public = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == "triaxis.errors"}
    assert public == {kind for kind, _ in CLASSES}


@pytest.mark.parametrize("kind", [kind for kind, _ in CLASSES], ids=lambda kind: kind.__name__)
def test_every_error_pickles_and_says_what_it_is(kind: type[TriaxisError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("a must hold, got b")))
    assert type(copy) is kind
    assert str(copy) == "a must hold, got b"
    assert (kind.__doc__ or "").strip()


def test_an_infeasible_budget_carries_what_it_knows() -> None:
    error = InfeasibleBudgetError("a budget must hold", metric="macs", smallest=12.5)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.metric, copy.smallest) == ("a budget must hold", "macs", 12.5)
    assert (InfeasibleBudgetError("none").metric, InfeasibleBudgetError("none").smallest) == (None, None)


def test_exit_codes_are_distinct_and_leave_the_shells_alone() -> None:
    codes = [kind.exit_code for kind, _ in CLASSES]
    assert len(set(codes)) == len(codes)
    assert not set(codes) & {0, 2}, "0 is success, and 2 is a wrong use of the command line"
    assert max(codes) < 64


def test_the_page_on_errors_names_each_with_its_exit_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    for kind, _ in CLASSES:
        assert f"| {kind.exit_code} | `{kind.__name__}` |" in page
