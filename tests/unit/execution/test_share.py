"""What a trial takes of a node, and how many fit: known answers."""

from __future__ import annotations

import pytest

from triaxis.errors import ConfigError
from triaxis.execution.share import Node, Share, num_places

SMALL, LARGE, GPUS = {"CPU": 2.0}, {"CPU": 16.0}, {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("share", "nodes", "workers", "cpus", "places"),
    [
        (Share(), [SMALL, LARGE], None, 1, 18),
        (Share(cpus=4), [SMALL, LARGE], None, 4, 4),
        (Share(max_cpus=3), [SMALL, LARGE], None, 3, 5),
        (Share(max_cpus=32), [SMALL, LARGE], None, 16, 1),  # no more than the largest node has
        (Share(), [SMALL], 2, 1, 2),
        (Share(), [SMALL, LARGE], 3, 6, 2),
        (Share(max_cpus=1), [LARGE], 4, 1, 16),
        (Share(gpus=1), [GPUS], None, 8, 8),
        (Share(gpus=1), [GPUS, LARGE], None, 8, 8),
        (Share(gpus=0.25), [GPUS], None, 2, 32),
        (Share(gpus=0.3, cpus=1), [GPUS], None, 1, 24),  # three on each device, whose rest stays free
        (Share(gpus=1, cpus=32), [GPUS], None, 32, 2),
    ],
)
def test_shares_and_places(share: Share, nodes: list[Node], workers: int | None, cpus: int, places: int) -> None:
    found = share.of(nodes, workers)
    assert found == {"num_cpus": cpus, "num_gpus": share.gpus}
    assert num_places(nodes, found) == places


@pytest.mark.parametrize(
    ("share", "nodes", "words"),
    [
        (Share(cpus=4), [SMALL], "needs 4 cores on one node, .* the largest has 2 cores and 0 GPUs"),
        (Share(gpus=0.5), [LARGE], "needs 1 cores and 0.5 GPU on one node"),
        (Share(), [], "the largest has 0 cores"),
    ],
)
def test_a_trial_that_fits_nowhere_is_said(share: Share, nodes: list[Node], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        share.of(nodes)
