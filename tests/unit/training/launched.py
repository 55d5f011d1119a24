"""Start a program as several processes, as torchrun does, and wait for all of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

LIMIT_S = 120


def start(num: int, *command: Any, **variables: str) -> list[subprocess.Popen[str]]:
    """Start `num` ranks of a Python program on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num)}
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GLOO_SOCKET_IFNAME": "lo"}
    started = []
    for rank in range(num):
        environment = {**os.environ, **shared, **threads, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        words = [sys.executable, *map(str, command)]
        started.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    return started


def ended(started: Sequence[subprocess.Popen[str]], limit_s: float = LIMIT_S) -> list[tuple[int, str]]:
    """Return exit code and output of each, and leave none behind."""
    try:
        return [(process.wait(limit_s), process.communicate()[0]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
