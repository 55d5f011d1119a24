"""How far the training of a grid is, measured in time and not in networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from triaxis.study.grid_config import effort
from triaxis.study.grid_networks import NetworkResult, NetworkSpec


def time_shares(finished: Sequence[NetworkResult], pending: Sequence[NetworkSpec]) -> list[float]:
    """Return the share of the grid's training time that has passed now, and after each pending network.

    A network is taken to need a (layers x width^2 x side^2) + b layers seconds: arithmetic, and launching the layers. The
    finished ones tell a and b.

    Returns:
        One number more than there are pending networks, rising in [0, 1] to 1.
    """
    done, left = (np.array([_features(spec) for spec in specs]).reshape(-1, 2) for specs in ([r.spec for r in finished], pending))
    rates = np.array([1.0, 0.0])
    if len(finished) > 1:
        fitted, _ = nnls(done, np.array([result.seconds for result in finished]))
        rates = fitted if fitted.sum() > 0 else rates
    start = float((done @ rates).sum())
    passed = start + np.concatenate([[0.0], np.cumsum(left @ rates)])
    return [float(share) for share in passed / passed[-1]] if len(pending) else [1.0]


def _features(spec: NetworkSpec) -> tuple[float, float]:
    return effort((spec.layers, spec.width, spec.side_px)), float(spec.layers)
