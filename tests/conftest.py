"""What holds for all tests: one thread for each process, and few measurements where whole runs are made.

Training steps as small as those of tests crawl on several threads, most of all where other processes want the same cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Before torch is imported by any test, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

WHOLE_RUNS = {"integration", "docs", "extending"}


@pytest.fixture(scope="module", autouse=True)
def _few_samples(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure a table's metrics on nine cuts and not on seventy, where runs go on in this process; tests/unit/metrics does it in full."""
    if request.path.parent.name not in WHOLE_RUNS:
        yield
        return
    from triaxis.metrics import table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "SAMPLED_LEVELS", (2, 2, 2))
        yield
