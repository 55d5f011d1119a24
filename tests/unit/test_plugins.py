"""How parts are found: in the box, installed, or of the user's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from triaxis.config import config_from_plain, load_config
from triaxis.errors import ConfigError
from triaxis.plugins import CRITERIA, Parts, import_function
from triaxis.surgery.criteria import Criterion

PARTS = Parts("shape", "triaxis_test.shapes", {"list": "builtins:list", "dict": "builtins:dict"})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a package that offers the part ``deque`` by an entry point; return its module."""
    info = tmp_path / "some_shapes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-shapes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[triaxis_test.shapes]\ndeque = some_shapes:Deque\n")
    (tmp_path / "some_shapes.py").write_text("import collections\n\nDeque = collections.deque\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return "some_shapes"


def test_a_part_is_found_in_the_box_by_its_path_and_by_its_entry_point(installed: str) -> None:
    PARTS.check("deque")
    assert installed not in sys.modules, "checking a name imports nothing"
    assert [type(PARTS.make(name)).__name__ for name in ("list", "collections:OrderedDict", "deque")] == ["list", "OrderedDict", "deque"]


@pytest.mark.parametrize("name", ["lisd", "", "a b:c", "list:", ":list", "os.path", "1a:b", "a:b:c", "collections:x.y"])
def test_another_name_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must be one of list, dict or package\.module:Name"):
        PARTS.check(name)


def test_the_nearest_name_is_told(installed: str) -> None:
    for wrong, right in (("lisd", "list"), ("dequeue", "deque")):
        with pytest.raises(ConfigError, match=f"did you mean {right}"):
            PARTS.make(wrong)


def test_what_cannot_be_imported_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "it_breaks.py").write_text("raise RuntimeError('half way')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"must be importable.*RuntimeError: half way"):
        PARTS.make("it_breaks:Shape")
    with pytest.raises(ConfigError, match="without arguments, got TypeError"):
        PARTS.make("builtins:getattr")


def test_a_function_is_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_me.py").write_text("def made():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert import_function("beside_me:made")() == 7
    with pytest.raises(ConfigError, match=r"'beside_me:other' must name an importable package.module:function, or a cake, got"):
        import_function("beside_me:other", ", or a cake")


@pytest.mark.parametrize("name", CRITERIA.box)
def test_every_criterion_in_the_box_is_there(name: str) -> None:
    assert isinstance(CRITERIA.make(name), Criterion)
    assert config_from_plain({"width": {"importance": name}}).width.importance == name


def test_a_configuration_names_a_criterion_of_the_users_own_without_importing_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("width: {importance: my_package.scores:Mine}\n")
    assert load_config(tmp_path / "run.yaml").width.importance == "my_package.scores:Mine"
    with pytest.raises(ConfigError, match=r"width.importance.*did you mean taylor"):
        config_from_plain({"width": {"importance": "tailor"}})
