"""Waits for jobs with everything imported, and does each in a fork of itself, which starts in milliseconds.

A job is one line of JSON on standard input; its end is one line on standard output: [exit code or minus the signal, seconds].
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
import traceback
from typing import Any

KINDS = {"count": 1, "kill": 2, "half": 3, "full": 4}


def child(job: dict[str, Any], shim: ctypes.CDLL) -> None:
    """Run one command line, harmed from its first operation on as the job says; never returns."""
    from triaxis.cli import main

    said = os.open(job["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["triaxis", *job["words"]]
    code = 70
    try:
        if job.get("prelude"):
            exec(compile(job["prelude"], "prelude", "exec"), {})
        if job["kind"]:
            shim.fault_arm(job["below"].encode(), KINDS[job["kind"]], job["at"], (job.get("log") or "").encode() or None)
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001  (whatever it is, it must be seen)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill_worker(pid: int) -> None:
    """Kill a child of a process, if it has one by now or gets one within a second."""
    import psutil

    for _ in range(200):
        try:
            children = psutil.Process(pid).children()
        except psutil.Error:
            return
        if children:
            children[-1].kill()
            return
        time.sleep(0.005)


def main() -> None:
    """Serve until standard input ends."""
    import triaxis.cli
    import triaxis.stages.pipeline  # noqa: F401  (so that a fork need not import torch)

    shim = ctypes.CDLL(sys.argv[1])
    shim.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child(job, shim)
        ended = os.pidfd_open(pid)
        if job.get("kill_after_s") is not None and not select.select([ended], [], [], job["kill_after_s"])[0]:
            os.kill(pid, signal.SIGKILL)
        if job.get("kill_worker_after_s") is not None:
            select.select([ended], [], [], job["kill_worker_after_s"])
            kill_worker(pid)
        if not select.select([ended], [], [], job["limit_s"])[0]:
            os.kill(pid, signal.SIGKILL)
        os.close(ended)
        _, status = os.waitpid(pid, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - start]), flush=True)


if __name__ == "__main__":
    main()
