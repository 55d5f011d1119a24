"""Which points to measure: chains along the axes first, then points off the axes where they tell most.

Notation:
    levels   of a cut, as in `lattice`
    f, S     predicted accuracies of the table's cuts, and their joint covariance         shape (n,), (n, n)
    tau      standard deviation of one measured accuracy
    K        change of f, in standard deviations of one more measurement at x: S[:, x] / sqrt(S[x, x] + tau^2)

Source: Frazier, Powell and Dayanik, INFORMS Journal on Computing 2009 (knowledge gradient for correlated beliefs).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from triaxis.maths.lattice import Lattice, Levels, on_axis
from triaxis.maths.polynomial import Floats
from triaxis.maths.predict import form_of
from triaxis.maths.solve import PredictedCuts, feasible_rows, predict_lattice
from triaxis.values import AXES, AccuracyPredictor, Axis, Budget, CostTable, KeepRatios

Chain = tuple[tuple[Axis, Levels], ...]
MAX_CANDIDATES, MAX_RIVALS, NUM_NODES = 400, 800, 11
PAIRS = ((0, 1), (0, 2), (1, 2))


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
        chain += [(axis, on_axis(axis, n)) for n in levels]
    return tuple(chain)


def _spread(ratios: Floats, levels: list[int], num: int) -> list[int]:
    """Return `num` of the levels, the last one among them, as evenly spaced in keep ratio from the base model as they allow."""
    if num == 0:
        return []
    chosen: list[int] = []
    for step, target in enumerate(np.linspace(ratios[0], ratios[levels[-1]], num + 1)[1:]):
        # Keep one level for each step still to come.
        free = [n for n in levels if not chosen or n > chosen[-1]]
        free = free[: len(free) - (num - step - 1)]
        chosen.append(min(free, key=lambda n: abs(ratios[n] - target)))
    return chosen


def steepest(table: CostTable, accuracies: Mapping[Levels, float], num: int) -> Chain:
    """Place `num` trials on the axes, each about half way between two measured neighbours between which accuracy falls most.

    A placed trial counts as measured half way in accuracy too, so that the next one may go elsewhere. Neighbours on the
    lattice have nothing between them; where no others are left, fewer trials are placed.

    Args:
        table: The lattice of what can be cut.
        accuracies: Measured so far, by levels; those off the axes are ignored.
        num: Number of trials.

    Returns:
        (axis, levels) in the order depth, width, resolution, falling along each axis.
    """
    curves = [{levels[a]: y for levels, y in accuracies.items() if levels == on_axis(axis, levels[a])} for a, axis in enumerate(AXES)]
    chosen: list[tuple[int, int]] = []
    for _ in range(num):
        steps = [(a, pair) for a in range(3) for pair in pairwise(sorted(curves[a])) if pair[1] - pair[0] > 1]
        if not steps:
            break
        a, (above, below) = max(steps, key=lambda step: curves[step[0]][step[1][0]] - curves[step[0]][step[1][1]])
        ratios = getattr(table, AXES[a])
        level = min(range(above + 1, below), key=lambda n: (round(abs(ratios[n] - (ratios[above] + ratios[below]) / 2), 9), -n))
        curves[a][level] = (curves[a][above] + curves[a][below]) / 2
        chosen.append((a, level))
    return tuple((AXES[a], on_axis(AXES[a], level)) for a, level in sorted(chosen))


def pair_points(x: Floats, num: int) -> list[int]:
    """Choose off-axis points by their place alone: for each pair of axes the one that cuts both most, then the ones half way.

    Args:
        x: Shape (n, 3), keep ratios to choose from.
        num: How many; at most six.

    Returns:
        Row numbers of x, without repeats.
    """
    cuts = -np.log(x)
    shares = cuts / np.maximum(cuts.max(axis=0), 1e-12)
    chosen: list[int] = []
    for target in (1.0, 0.5):
        for pair in PAIRS:
            wanted = np.where(np.isin(np.arange(3), pair), target, 0.0)
            is_on_pair = np.all(shares[:, pair] > 0, axis=1)
            distance = np.where(is_on_pair, np.sum((shares - wanted) ** 2, axis=1), np.inf)
            row = int(np.argmin(distance))
            if np.isfinite(distance[row]) and row not in chosen:
                chosen.append(row)
    return chosen[:num]


def off_axis(
    table: CostTable, predictor: AccuracyPredictor | None, num: int, *, min_ratios: KeepRatios | None = None
) -> tuple[Levels, ...]:
    """Place trials off the axes, for no budget in particular.

    With a predictor: one after the other where a measurement lowers the average variance over all cuts in the measured
    domain the most. Without: by place alone, see `pair_points`.

    Args:
        table: The lattice of what can be cut.
        predictor: Fitted to the trials on the axes, or None before there are any.
        num: Number of trials; without a predictor at most six.
        min_ratios: Smallest keep ratios without a predictor; default the table's.
    """
    if predictor is not None:
        cuts = predict_lattice(predictor, table)
        rows = _thinned(np.flatnonzero(cuts.is_measured), MAX_CANDIDATES)
        return tuple(cuts.lattice.levels(int(rows[n])) for n in most_telling(predictor, cuts.lattice.x[rows], num))
    lattice = Lattice(table)
    rows = lattice.rows_above(min_ratios) if min_ratios else np.arange(len(lattice))
    return tuple(lattice.levels(int(rows[n])) for n in pair_points(lattice.x[rows], num))


def most_telling(predictor: AccuracyPredictor, x: Floats, num: int) -> list[int]:
    """Choose rows of x, one after the other, whose measurement lowers the summed variance over all of x the most.

    Args:
        predictor: From `fit`; its accuracies at x are not used, only how uncertain they are.
        x: Shape (n, 3).
        num: How many.
    """
    s = _covariance(predictor, x)
    chosen: list[int] = []
    for _ in range(num):
        gain = np.sum(s**2, axis=0) / (np.diag(s) + predictor.noise**2)
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        chosen.append(best)
        s = s - np.outer(s[best], s[best]) / (s[best, best] + predictor.noise**2)
    return chosen


class NextTrial(NamedTuple):
    """Where to measure next, and whether it is worth it.

    `expected_gain` is the rise in the accuracy of the best cut within budget that the trial is expected to bring.
    `regret_bound` is by how much some other cut within budget may be better than the present solution, each with
    probability 0.95. `noise_width` is half the 90 % interval of one measured accuracy, the smallest difference that a
    trial can show.
    """

    levels: Levels
    expected_gain: float
    regret_bound: float
    noise_width: float

    @property
    def is_worth_it(self) -> bool:
        """Whether another cut may beat the solution by more than one measurement's interval, the rule to stop by."""
        return self.regret_bound > self.noise_width


def next_trial(
    predictor: AccuracyPredictor, table: CostTable, budgets: Sequence[Budget], *, measured: Collection[Levels] = ()
) -> NextTrial:
    """Choose the trial from which the solution under the budgets is expected to gain most.

    Args:
        predictor: Fitted to the trials so far.
        table: The lattice of what can be cut.
        budgets: As for `solve`.
        measured: Levels that need no second trial.

    Returns:
        The trial; with every cut measured, the solution itself, not worth it.

    Raises:
        InfeasibleBudgetError: No cut is cheap enough.
    """
    cuts = predict_lattice(predictor, table)
    rivals, best, bound = _rivals(predictor, cuts, budgets)
    width = predictor.quantile * predictor.noise
    open_rows = np.setdiff1d(np.flatnonzero(cuts.is_measured), cuts.lattice.rows(measured))
    if not len(open_rows):
        return NextTrial(cuts.lattice.levels(best), 0.0, 0.0, width)
    among, beside = np.intersect1d(rivals, open_rows), np.setdiff1d(open_rows, rivals)
    rows = np.concatenate([_thinned(part, MAX_CANDIDATES // 2) for part in (among, beside)])
    gains = _knowledge_gradient(predictor, cuts, rows, rivals)
    chosen = int(np.argmax(gains))
    return NextTrial(cuts.lattice.levels(int(rows[chosen])), float(gains[chosen]), bound, width)


def _rivals(predictor: AccuracyPredictor, cuts: PredictedCuts, budgets: Sequence[Budget]) -> tuple[np.ndarray, int, float]:
    """Return the cuts within budget that may be better than the best predicted one, that one, and by how much they may be."""
    rows = feasible_rows(cuts.lattice, budgets)
    rows = rows[cuts.is_measured[rows]] if cuts.is_measured[rows].any() else rows
    best = int(rows[np.argmax(cuts.accuracy[rows])])
    jacobian = _jacobian(predictor, cuts.lattice.x[rows]) - _jacobian(predictor, cuts.lattice.x[[best]])
    deviation = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", jacobian, np.array(predictor.covariance), jacobian), 0.0))
    may_gain = cuts.accuracy[rows] - cuts.accuracy[best] + predictor.quantile * deviation
    order = np.argsort(-may_gain)[:MAX_RIVALS]
    order = order[may_gain[order] > 0]
    return np.union1d(rows[order], [best]), best, float(max(may_gain.max(), 0.0))


def _knowledge_gradient(predictor: AccuracyPredictor, cuts: PredictedCuts, rows: np.ndarray, rivals: np.ndarray) -> Floats:
    """Return E[max over rivals of f + K z] - max f for a measurement at each row, z standard normal, by quadrature."""
    covariance = np.array(predictor.covariance)
    at, among = _jacobian(predictor, cuts.lattice.x[rows]), _jacobian(predictor, cuts.lattice.x[rivals])
    spread = np.sqrt(np.einsum("ni,ij,nj->n", at, covariance, at) + predictor.noise**2)
    change = (among @ covariance @ at.T) / spread
    nodes, weights = np.polynomial.hermite_e.hermegauss(NUM_NODES)
    f = cuts.accuracy[rivals]
    best = np.array([np.max(f[:, None] + change * node, axis=0) for node in nodes])
    return weights @ best / weights.sum() - f.max()


def _covariance(predictor: AccuracyPredictor, x: Floats) -> Floats:
    jacobian = _jacobian(predictor, x)
    return jacobian @ np.array(predictor.covariance) @ jacobian.T


def _jacobian(predictor: AccuracyPredictor, x: Floats) -> Floats:
    return form_of(predictor).jacobian(np.array(predictor.coefficients), x)


def _thinned(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of the rows, evenly picked."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
