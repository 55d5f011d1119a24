"""Start a program as several processes, as torchrun does, and wait for all of them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

LIMIT_S = 120


def variables_of(num: int) -> list[dict[str, str]]:
    """Return what torchrun would set for each of `num` ranks on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num)}
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GLOO_SOCKET_IFNAME": "lo"}
    return [{**shared, **threads, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num)]


def start(num: int, *command: Any) -> list[subprocess.Popen[str]]:
    """Start `num` ranks of a Python program on this machine."""
    words = [sys.executable, *map(str, command)]
    return [
        subprocess.Popen(words, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for variables in variables_of(num)
    ]


def forked(num: int, script: Path, folder: Path) -> list[BaseProcess]:
    """Start `num` ranks of a script from a process that has imported torch for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["triaxis.training.loop"])
    started: list[BaseProcess] = []
    for variables in variables_of(num):
        given = {"init_globals": {"VARIABLES": variables, "FOLDER": str(folder)}, "run_name": "__main__"}
        started.append(context.Process(target=runpy.run_path, args=(str(script),), kwargs=given, daemon=True))
        started[-1].start()
    return started


def joined(started: Sequence[BaseProcess], limit_s: float = LIMIT_S) -> list[int | None]:
    """Return the exit code of each, and leave none behind."""
    deadline = time.monotonic() + limit_s
    for process in started:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return codes


def ended(started: Sequence[subprocess.Popen[str]], limit_s: float = LIMIT_S) -> list[tuple[int, str]]:
    """Return exit code and output of each, and leave none behind."""
    try:
        return [(process.wait(limit_s), process.communicate()[0]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
