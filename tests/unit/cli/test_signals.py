"""A signal ends a command with a code of its own; and threads wait without spinning, unless the user chose how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from triaxis import cli
from triaxis.cli.frame import Commands
from triaxis.errors import InterruptedRunError
from triaxis.process.interrupt import heeding_signals, postponed, requested


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_command_with_the_code_that_says_run_me_again(number):
    app = typer.Typer(cls=Commands)

    @app.command()
    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        except Exception:  # noqa: BLE001  (as code on the way may do)
            pytest.fail("a signal must not look like a failure of the work")

    app.command()(lambda: None)
    done = CliRunner().invoke(app, ["work"])
    assert done.exit_code == InterruptedRunError.exit_code == 20
    assert f"asked to stop by {number.name}" in done.stderr and "run the same command again" in done.stderr


def test_what_must_not_be_torn_apart_is_finished_first():
    done = []

    @heeding_signals()
    def work() -> None:
        with postponed():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(requested())
        done.append("never")

    with pytest.raises(InterruptedRunError):
        work()
    assert done == [True]
    assert not requested()


def test_handlers_are_put_back_and_nesting_is_harmless():
    before = signal.getsignal(signal.SIGTERM)
    with heeding_signals():
        inside = signal.getsignal(signal.SIGTERM)
        with heeding_signals():
            pass
        assert signal.getsignal(signal.SIGTERM) == inside != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_forked_worker_ends_by_sigterm_as_it_always_did():
    with heeding_signals():
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGUSR1)  # sent to a whole job; the parent decides
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("given", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "active"), ({"GOMP_SPINCOUNT": "5"}, None), ({"KMP_BLOCKTIME": "1"}, None)],
)
def test_threads_wait_passively_unless_the_user_chose(given, policy, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli, "app", lambda: None)
    cli.main()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_the_policy_is_set_before_torch_is_there():
    code = "import sys, triaxis.cli as c; c.app = lambda: sys.exit('torch' in sys.modules); c.main()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
