"""How parts are found: in the box, installed, or of the user's own."""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict, deque
from pathlib import Path

import pytest

from triaxis.config import config_from_plain, load_config
from triaxis.config.tree import CRITERIA
from triaxis.errors import ConfigError
from triaxis.plugins import find_part, require_known
from triaxis.surgery.criteria import BOX

SHAPES = {"list": list, "dict": dict}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a package that offers the part ``deque`` by an entry point; return its module."""
    info = tmp_path / "some_shapes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-shapes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[triaxis.shapes]\ndeque = some_shapes:Deque\n")
    (tmp_path / "some_shapes.py").write_text("import collections\n\nDeque = collections.deque\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return "some_shapes"


def test_a_part_is_found_in_the_box_by_its_path_and_by_its_entry_point(installed: str) -> None:
    require_known("shape", "deque", SHAPES, setting="shape")
    assert installed not in sys.modules, "checking a name imports nothing"
    found = [find_part("shape", name, SHAPES, setting="shape") for name in ("list", "collections:OrderedDict", "deque")]
    assert found == [list, OrderedDict, deque]


@pytest.mark.parametrize("find", [require_known, find_part])
def test_the_nearest_name_is_told(installed: str, find: object) -> None:
    for wrong, words in (("lisd", "did you mean list"), ("dequeue", "did you mean deque"), ("", "known are deque, dict, list")):
        with pytest.raises(ConfigError, match=words):
            find("shape", wrong, SHAPES, setting="shape")  # type: ignore[operator]


@pytest.mark.parametrize("name", ["a b:c", "list:", ":list", "collections:x.y", "nowhere_at_all:Shape"])
def test_what_cannot_be_imported_is_one_sentence(name: str) -> None:
    with pytest.raises(ConfigError, match="shape must name an importable"):
        find_part("shape", name, SHAPES, setting="shape")


def test_the_criteria_of_the_configuration_are_those_in_the_box() -> None:
    assert tuple(BOX) == CRITERIA
    for name in CRITERIA:
        assert config_from_plain({"width": {"importance": name}}).width.importance == name


def test_a_configuration_names_a_criterion_of_the_users_own_without_importing_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("width: {importance: my_package.scores:Mine}\n")
    assert load_config(tmp_path / "run.yaml").width.importance == "my_package.scores:Mine"
    with pytest.raises(ConfigError, match=r"width\.importance.*did you mean taylor"):
        config_from_plain({"width": {"importance": "tailor"}})
