"""What tells a process from a later one with the same number, whatever clocks say."""

from __future__ import annotations

import re
from pathlib import Path


def mark_of(pid: int) -> str | None:
    """Return a text that no other process of this machine has, or None if there is no such process any more.

    On Linux it is the boot's id and the process's start, counted in ticks since the boot: it does not move when the clock is
    set. Elsewhere it is the start by the clock.
    """
    stat = Path(f"/proc/{pid}/stat")
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        if boot.exists():
            # The name, in brackets, may hold anything; the state is the first word after it, the start the twentieth.
            words = re.sub(r"^.*\)", "", stat.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL).split()
            return None if words[0] in "ZX" else f"{boot.read_text().strip()}:{words[19]}"
    except (OSError, IndexError):
        return None
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except (psutil.Error, ValueError):
        return None
