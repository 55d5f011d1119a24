"""Runs that are killed, or that find the disk full, at operations on files all over the stages; `make soak` does many more."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from triaxis.errors import StoreError, TrainingError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from faults.lab import Lab, can_harm, config_text, leftovers, lost, result_of, trials_of

pytestmark = pytest.mark.skipif(not can_harm(), reason="needs Linux and a C compiler")


ELSEWHERE = "import platform; platform.node = lambda: 'another-machine'"
JUMPING = """
import itertools, time
real, count = time.time, itertools.count()
time.time = lambda: real() + 86400 * (7 * next(count) % 11 - 5)
"""
SPOILT = """
from triaxis.training.loop import Loop
real, names = Loop._part_loss, []
def spoilt(self, *arguments):
    loss, name = real(self, *arguments), self.saving.path.stem
    if {condition} and self.step >= 3:
        names.append(name)
        loss = loss * float("nan")
    return loss
Loop._part_loss = spoilt
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "small.yaml"
    file.write_text(config_text("chains", minutes=0.002))
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, lab: Lab, config: Path) -> tuple[dict, list[str]]:
    """The result of an undisturbed run, and all operations that it did."""
    folder = tmp_path_factory.mktemp("whole")
    done = lab.run(config, folder / "run", kind="count", log=folder / "operations.txt")
    assert done.code == 0, done.said
    return result_of(folder / "run"), (folder / "operations.txt").read_text().splitlines()


def test_a_dozen_kills_change_no_number_and_no_trial(tmp_path, lab, config, whole):
    """Meanwhile the run moves from path to path and from machine to machine, and the clock jumps days back and forth."""
    wanted, operations = whole
    out, draw, codes = tmp_path / "run", random.Random(0), []
    for number in range(12):
        before = trials_of(out)
        if number >= 4:
            out = out.rename(tmp_path / f"run {number}")
            # A lock whose owner is dead: its number belongs to another process by now.
            (out / ".lock").write_text("1 on this-machine\n")
        # The first fall among the operations that begin a run, the rest where each attempt gets farther than the last.
        at = draw.randint(1, 40) if number < 4 else draw.randint(20, len(operations) // 8)
        codes.append(lab.run(config, out, kind="half" if number % 2 else "kill", at=at, prelude=(ELSEWHERE, JUMPING)[number // 2 % 2]).code)
        assert lost(before, trials_of(out)) == []
    assert codes.count(-signal.SIGKILL) >= 10, codes
    done = lab.run(config, out, prelude=JUMPING)
    assert done.code == 0, done.said
    assert result_of(out) == wanted
    assert leftovers(out) == []


def test_a_disk_that_is_full_at_any_write_is_one_sentence_and_the_same_command_goes_on(tmp_path, lab, config, whole):
    wanted, _ = whole
    out, codes = tmp_path / "run", []
    for at in (1, 3, 6, 10, 16, 25, 40, 60, 80, 110):
        before = trials_of(out)
        done = lab.run(config, out, kind="full", at=at)
        codes.append(done.code)
        assert "Traceback" not in done.said, done.said
        if done.code:
            assert done.code == StoreError.exit_code, done.said
            assert done.said.count("error:") == 1 and "free some space" in done.said, done.said
        assert lost(before, trials_of(out)) == []
    assert codes.count(StoreError.exit_code) >= 8, codes
    done = lab.run(config, out)
    assert done.code == 0, done.said
    assert result_of(out) == wanted
    assert leftovers(out) == []


def test_numbers_that_are_none_end_the_run_with_a_sentence_and_the_same_command_goes_on(tmp_path, lab, config, whole):
    out = tmp_path / "run"
    for prefix in ("base", "final"):
        before = trials_of(out)
        done = lab.run(config, out, prelude=SPOILT.format(condition=f"name.startswith({prefix!r})"))
        assert done.code == TrainingError.exit_code, done.said
        assert done.said.count("error:") == 1 and "must be finite, got nan at step 4" in done.said and "Traceback" not in done.said
        assert leftovers(out) == [] and lost(before, trials_of(out)) == []
    before = trials_of(out)
    done = lab.run(config, out)
    assert done.code == 0, done.said
    assert lost(before, trials_of(out)) == [] and result_of(out) == whole[0]
