from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from triaxis.errors import StoreError
from triaxis.store.checkpoints import load_checkpoint, save_checkpoint
from triaxis.store.files import remove_temporary, write_atomic, write_json, write_text


def damage(path: Path) -> None:
    """Flip one bit of the last byte, which is one of the values."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


KILLED_WHILE_WRITING = """
import os, signal, sys
from triaxis.store.files import write_atomic
def write(path):
    path.write_text("half a fi")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomic(sys.argv[1], write)
"""


def test_a_file_is_replaced_and_no_temporary_is_left(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "a.txt", "one")
    write_text(path, "two µ")
    assert path.read_text(encoding="utf-8") == "two µ"
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "whole")
    assert subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "whole"
    assert remove_temporary(tmp_path, r"b\.txt") == []
    stale = remove_temporary(tmp_path, r"a\.txt")
    assert len(stale) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        temporary.write_text("half a fi")
        raise RuntimeError("stop")

    path = write_text(tmp_path / "a.txt", "whole")
    with pytest.raises(RuntimeError):
        write_atomic(path, fail)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_synced_before_it_is_renamed_and_the_directory_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        events.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("rename"), replace(old, new)))
    write_text(tmp_path / "a.txt", "x")
    assert events == ["file", "rename", "directory"]


@pytest.mark.parametrize(
    ("number", "needle"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "must be writable"), (errno.EACCES, "must be writable")]
)
def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, needle: str) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", {"w": torch.ones(3)})

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=needle) as caught:
        save_checkpoint(path, {"w": torch.zeros(3)})
    assert "a.safetensors" in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(load_checkpoint(path)["w"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_met_inside_safetensors_is_the_same_sentence(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    def refuse(temporary: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(StoreError, match="disk is full"):
        write_atomic(tmp_path / "a.safetensors", refuse)


def test_a_file_in_the_way_of_the_directory_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="must be writable"):
        write_text(tmp_path / "taken" / "a.txt", "x")


def test_json_is_plain_and_readable(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    assert json.loads(path.read_text()) == {"b": 1, "a": [1.5]}
    for bad in (math.nan, object()):
        with pytest.raises(StoreError, match="plain JSON"):
            write_json(path, {"bad": bad})
    assert json.loads(path.read_text()) == {"b": 1, "a": [1.5]}


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    shared = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    state = {
        "a": shared,
        "b": shared,
        "t": shared.t(),
        "half": shared.to(torch.bfloat16),
        "count": torch.tensor(3),
        "empty": torch.zeros(0),
    }
    found = load_checkpoint(save_checkpoint(tmp_path / "c" / "x.safetensors", state))
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all", (10**6).to_bytes(8, "little") + b"{}"])
def test_a_checkpoint_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.safetensors"):
        load_checkpoint(path)


def test_any_flipped_bit_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    state = {"weight": torch.arange(3.0), "half": torch.ones(2, dtype=torch.bfloat16), "none": torch.zeros(0, 3), "count": torch.tensor(7)}
    whole = save_checkpoint(tmp_path / "x.safetensors", state).read_bytes()
    path, said, accepted = tmp_path / "y.safetensors", set(), []
    for place in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            load_checkpoint(path)
        except StoreError as error:
            said.add(str(error))
        else:
            accepted.append(place)
    assert accepted == []
    assert all("y.safetensors" in words and "put a copy" in words and "\n" not in words for words in said)


def test_a_damaged_weight_is_called_so_with_what_to_do(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "x.safetensors", {"w": torch.ones(64)})
    damage(path)
    with pytest.raises(StoreError, match=r"x\.safetensors .*damaged.*: remove it\.$"):
        load_checkpoint(path, "remove it")


def test_a_checkpoint_of_version_0_1_has_no_digest_and_is_read(tmp_path: Path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "x.safetensors")
    assert torch.equal(load_checkpoint(tmp_path / "x.safetensors")["w"], torch.ones(3))


def test_temporary_files_of_others_stay(tmp_path: Path) -> None:
    ours = tmp_path / ".a.txt.17.tmp"
    others = [tmp_path / name for name in (".b.txt.17.tmp", ".a.txt.tmp", "a.txt.17.tmp", ".a.txt.17.tmp.old", "in/.a.txt.17.tmp")]
    (tmp_path / "in").mkdir()
    for path in [ours, *others]:
        path.write_text("kept")
    assert remove_temporary(tmp_path, r"a\.txt") == [ours]
    assert all(path.exists() for path in others) and not ours.exists()
    assert remove_temporary(tmp_path / "nowhere", r"a\.txt") == []


def test_what_safetensors_left_in_a_folder_of_checkpoints_goes_too(tmp_path: Path) -> None:
    left, other = tmp_path / ".tmpAb3dEf", tmp_path / ".tmpnotes.txt"
    for path in (left, other):
        path.write_text("half")
    assert remove_temporary(tmp_path, r"a\.txt") == []
    assert remove_temporary(tmp_path, r"\w+\.safetensors") == [left]
    assert other.exists()
