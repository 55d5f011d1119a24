"""plan.json as a file that anybody may have written: whatever stands in it, `load` gives a model or one sentence."""

from __future__ import annotations

import copy
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import triaxis
from triaxis.deliver.inspect import inspect_model
from triaxis.errors import TriaxisError
from triaxis.values import KeepRatios

DELETED = object()
ODD = (DELETED, None, True, -1, 10**300, 1e18, math.nan, "../x", "\ud800", "a" * 5000, [], [[]], {})
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "compressed"
    inspect_model("cifar:resnet14", args={"width": 0.25}, side_px=8, keep=KeepRatios(depth=0.7, width=0.5, resolution=0.5), save=folder)
    plain = json.loads((folder / "plan.json").read_text())
    assert plain["plan"]["removed_blocks"] and plain["plan"]["channels"]
    return folder


def places(item: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every field, deep down; of a list its first item."""
    if isinstance(item, dict):
        return [path, *itertools.chain.from_iterable(places(part, (*path, key)) for key, part in item.items())]
    if isinstance(item, list):
        return [path, *itertools.chain.from_iterable(places(first, (*path, 0)) for first in item[:1])]
    return [path]


def changed(plain: Any, path: tuple[Any, ...], to: Any) -> Any:
    """Return a copy with one field replaced or deleted; as it is where the path is gone."""
    if not path:
        return None if to is DELETED else to
    plain = copy.deepcopy(plain)
    place = plain
    try:
        for step in path[:-1]:
            place = place[step]
        if to is DELETED:
            del place[path[-1]]
        else:
            place[path[-1]] = to
    except (KeyError, IndexError, TypeError):
        pass
    return plain


def outcome(folder: Path, plain: Any) -> type:
    """Return the class of what `load` gives or of what it says; anything else passes through and fails the test."""
    (folder / "plan.json").write_text(json.dumps(plain))
    sentence = ""
    try:
        found: Any = triaxis.load(folder)
    except TriaxisError as error:
        found, sentence = error, str(error)
    assert "\n" not in sentence and len(sentence) < 1500
    assert isinstance(found, nn.Module) or sentence
    return nn.Module if isinstance(found, nn.Module) else type(found)


@pytest.fixture
def folder(compressed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compressed, tmp_path / "copy"))


def test_each_field_with_each_odd_value(compressed: Path, folder: Path) -> None:
    plain = json.loads((compressed / "plan.json").read_text())
    assert outcome(folder, plain) is nn.Module
    refused = [outcome(folder, changed(plain, path, to)) is not nn.Module for path in places(plain) for to in ODD]
    assert sum(refused) > 0.9 * len(refused)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_several_fields_with_any_value(compressed: Path, folder: Path, data: st.DataObject) -> None:
    plain = json.loads((compressed / "plan.json").read_text())
    for path in data.draw(st.lists(st.sampled_from(places(plain)[1:]), min_size=1, max_size=3)):
        plain = changed(plain, path, data.draw(PLAIN))
    outcome(folder, plain)
