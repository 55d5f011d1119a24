"""Does rank 1 hold for a user's own trials?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triaxis.maths.rank import RankTest, rank_one_test
from triaxis.study.tables import Analysis, analyse, planes
from triaxis.values import KeepRatios, Point


@dataclass(frozen=True)
class RankStudy:
    """The test on off-axis points, and the two-axis tables that the points fill, if any."""

    points: tuple[Point, ...]
    test: RankTest | None
    tables: tuple[Analysis, ...]
    verdict: str


def study_rank(points: Sequence[Point]) -> RankStudy:
    """Test rank 1 on measured points.

    Raises:
        FitError: The points on single axes do not determine the slices of eq. 6.
    """
    test = rank_one_test(points)
    tables = tuple(analyse(table) for table in planes(points, KeepRatios()))
    return RankStudy(tuple(points), test, tables, verdict(test, len(points)))


def verdict(test: RankTest | None, num_points: int) -> str:
    """Say in one sentence whether rank 1 holds, with the interval on that."""
    if test is None:
        return (
            f"Rank 1 cannot be tested: none of the {num_points} points cuts more than one axis, and a product of three factors "
            "describes any such points; measure a few that cut two axes at once."
        )
    low, high = (100 * bound for bound in test.interval)
    shown = (
        f"the {len(test.points)} points that cut several axes lie on average {100 * test.mean:+.2f} points of accuracy from the product "
        f"of the axes (90 % interval {low:+.2f} to {high:+.2f})"
    )
    if test.holds:
        return f"Rank 1 holds as far as these points can tell: {shown}."
    side = "below" if test.mean < 0 else "above"
    return f"Rank 1 does not hold: {shown}, so cutting several axes at once ends {side} what the axes alone promise."


def read_run(run_dir: str | Path) -> list[Point]:
    """Return the points of a run's finished trials.

    Raises:
        StoreError: There is no such run.
    """
    from triaxis.stages.fit import points_from_trials
    from triaxis.store.directory import RunDirectory

    with RunDirectory(run_dir).read() as store:
        return points_from_trials(store.trials())
