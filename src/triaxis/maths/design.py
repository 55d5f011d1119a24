"""Which points to measure: chains along the axes first, then off-axis points where they tell most.

Notation:
    levels (i, j, k) index the blocks, widths and sides of a cost table; (0, 0, 0) is the base model
"""

from __future__ import annotations

import numpy as np

from triaxis.maths.solve import Levels
from triaxis.values import AXES, Axis, CostTable, KeepRatios

Chain = tuple[tuple[Axis, Levels], ...]


def axis_design(table: CostTable, *, num_trials: int = 12, min_ratios: KeepRatios) -> Chain:
    """Place about `num_trials` trials in one chain per axis, evenly spread over the levels, each chain in falling order.

    Trials are dealt one at a time to the axis with the fewest so far that still has levels left, so an axis with few
    levels passes its share on. The base model is not among them.

    Args:
        table: The lattice of what can be cut.
        num_trials: Trials on all axes together.
        min_ratios: Smallest keep ratio to measure on each axis.

    Returns:
        (axis, levels) in the order depth, width, resolution, each chain falling.
    """
    open_levels = [[n for n, x in enumerate(getattr(table, axis)) if n and x >= getattr(min_ratios, axis) - 1e-9] for axis in AXES]
    shares = [0, 0, 0]
    for _ in range(num_trials):
        waiting = [a for a in range(3) if shares[a] < len(open_levels[a])]
        if waiting:
            shares[min(waiting, key=lambda a: shares[a])] += 1
    chain: list[tuple[Axis, Levels]] = []
    for a, axis in enumerate(AXES):
        levels = _spread(np.array(getattr(table, axis)), open_levels[a], shares[a])
        chain += [(axis, (n if a == 0 else 0, n if a == 1 else 0, n if a == 2 else 0)) for n in levels]
    return tuple(chain)


def _spread(ratios: np.ndarray, levels: list[int], num: int) -> list[int]:
    """Return `num` of the levels, the last one among them, as evenly spaced in keep ratio from the base model as they allow."""
    if num == 0:
        return []
    wanted = np.linspace(ratios[0], ratios[levels[-1]], num + 1)[1:]
    chosen: list[int] = []
    for step, target in enumerate(wanted):
        # Keep one level for each step still to come.
        free = [n for n in levels if not chosen or n > chosen[-1]]
        free = free[: len(free) - (num - step - 1)]
        chosen.append(min(free, key=lambda n: abs(ratios[n] - target)))
    return chosen
