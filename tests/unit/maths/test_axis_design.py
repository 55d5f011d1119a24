from __future__ import annotations

import pytest

from triaxis.maths.design import axis_design, steepest
from triaxis.maths.lattice import on_axis
from triaxis.study.synthetic import cnn_cost, table_of
from triaxis.values import AXES, CostTable, KeepRatios

TABLE = table_of(macs=cnn_cost)
MIN = KeepRatios(depth=0.4, width=0.375, resolution=0.5)


def _axis_levels(table: CostTable, num: int, low: KeepRatios = MIN) -> dict[str, list[float]]:
    levels: dict[str, list[float]] = {axis: [] for axis in AXES}
    for axis, index in axis_design(table, num_trials=num, min_ratios=low):
        a = AXES.index(axis)
        assert [n for n in range(3) if index[n]] == [a]
        levels[axis].append(getattr(table, axis)[index[a]])
    return levels


def test_twelve_trials_are_four_falling_evenly_spread_ones_per_axis() -> None:
    levels = _axis_levels(TABLE, 12)
    assert levels["resolution"] == [0.875, 0.75, 0.625, 0.5]
    assert levels["width"] == pytest.approx([0.84375, 0.6875, 0.53125, 0.375], abs=1 / 32)
    assert [round(9 * d) for d in levels["depth"]] == [8, 7, 5, 4]
    for chain in levels.values():
        assert chain == sorted(set(chain), reverse=True)


def test_an_axis_with_few_levels_passes_its_share_on() -> None:
    levels = _axis_levels(TABLE, 12, KeepRatios(depth=0.75, width=0.375, resolution=0.5))
    assert [len(levels[axis]) for axis in AXES] == [2, 5, 5]


def test_a_closed_axis_gets_no_trial() -> None:
    closed = CostTable(
        blocks=(9,),
        widths=TABLE.widths,
        sides_px=TABLE.sides_px,
        depth=(1.0,),
        width=TABLE.width,
        resolution=TABLE.resolution,
        costs={"macs": TABLE.costs["macs"][:1]},
    )
    assert [len(chain) for chain in _axis_levels(closed, 12).values()] == [0, 6, 6]


@pytest.mark.parametrize("num", [0, 1, 2, 3, 7, 12, 25, 200])
def test_no_more_trials_than_asked_for_and_none_twice(num: int) -> None:
    design = axis_design(TABLE, num_trials=num, min_ratios=MIN)
    assert len(set(design)) == len(design) == min(num, 5 + 10 + 16)


def _curves(**accuracies: dict[int, float]) -> dict[tuple[int, int, int], float]:
    return {on_axis(axis, level): y for axis, curve in accuracies.items() for level, y in {0: 0.9, **curve}.items()}


def test_a_trial_goes_half_way_down_the_steepest_step() -> None:
    measured = _curves(depth={2: 0.89, 5: 0.6}, width={6: 0.88, 12: 0.8}, resolution={8: 0.85, 16: 0.75})
    ((axis, levels),) = steepest(TABLE, measured, 1)
    assert axis == "depth" and TABLE.depth[levels[0]] == pytest.approx((TABLE.depth[2] + TABLE.depth[5]) / 2, abs=1 / 18 + 1e-9)


def test_a_placed_trial_counts_as_half_of_the_step() -> None:
    measured = _curves(width={10: 0.5}, resolution={8: 0.65})
    placed = steepest(TABLE, measured, 3)
    # The width falls by 0.4, then over two steps of 0.2 each, the resolution by 0.25.
    assert [axis for axis, _ in placed] == ["width", "width", "resolution"]
    assert placed[0][1] < placed[1][1]


def test_off_axis_trials_do_not_steer_and_neighbours_have_nothing_between() -> None:
    measured = {**_curves(depth={1: 0.1}), (1, 1, 0): 0.0, (0, 4, 4): 0.0}
    assert steepest(TABLE, measured, 2) == ()
