"""What holds for all tests: one thread for each process, also for those that tests start.

Training steps as small as those of tests crawl on several threads, most of all where other processes want the same cores.
"""

from __future__ import annotations

import os

# Before torch is imported by any test.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
