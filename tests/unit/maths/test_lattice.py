"""The lattice knows what levels mean: by hand on six cuts, and there and back on a real table."""

from __future__ import annotations

import numpy as np
import pytest

from triaxis.errors import ConfigError
from triaxis.maths.lattice import BASE, Lattice, Levels, Place, on_axis
from triaxis.study.synthetic import cnn_cost, table_of
from triaxis.values import CostTable, KeepRatios

SMALL = Lattice(
    CostTable(
        blocks=(4, 3),
        widths=(1.0, 0.7, 0.4),
        sides_px=(32,),
        depth=(1.0, 0.75),
        width=(1.0, 0.75, 0.375),
        resolution=(1.0,),
        costs={"macs": (((60.0,), (50.0,), (40.0,)), ((30.0,), (20.0,), (10.0,)))},
    )
)
LARGE = Lattice(table_of(macs=cnn_cost))


def test_six_cuts_by_hand() -> None:
    assert SMALL.shape == (2, 3, 1) and len(SMALL) == 6
    assert list(SMALL) == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 0, 0), (1, 1, 0), (1, 2, 0)]
    assert SMALL.costs("macs").tolist() == [60, 50, 40, 30, 20, 10]
    assert SMALL.shares("macs")[3] == 0.5
    assert SMALL.x.tolist()[4] == [0.75, 0.75, 1.0]
    assert SMALL.ratios((1, 2, 0)) == KeepRatios(depth=0.75, width=0.375)
    assert SMALL.target((1, 2, 0)) == KeepRatios(depth=0.75, width=0.4)
    assert SMALL.place((1, 2, 0)) == (3, 0.4, 32)
    assert SMALL.cost("macs", (1, 1, 0)) == 20
    assert SMALL.rows_above(KeepRatios(depth=0.5, width=0.75, resolution=0.5)).tolist() == [0, 1, 3, 4]
    assert SMALL.rows([(1, 2, 0), BASE]).tolist() == [5, 0] and SMALL.rows([]).tolist() == []
    assert [on_axis("depth", 2), on_axis("width", 2), on_axis("resolution", 2)] == [(2, 0, 0), (0, 2, 0), (0, 0, 2)]


def test_what_is_nearest_is_found_by_achieved_or_by_asked_for_ratios() -> None:
    wanted = KeepRatios(depth=0.8, width=0.58)
    assert SMALL.nearest(wanted) == (1, 1, 0)
    assert SMALL.nearest(KeepRatios(width=0.55)) == (0, 2, 0)
    assert SMALL.of_target(KeepRatios(width=0.56)) == (0, 1, 0)


@pytest.mark.parametrize("levels", [BASE, (3, 0, 0), (0, 9, 0), (0, 0, 11), (2, 5, 7)])
def test_each_name_of_a_cut_leads_back_to_its_levels(levels: Levels) -> None:
    assert LARGE.levels(LARGE.row(levels)) == levels
    assert LARGE.at(LARGE.place(levels)) == levels
    assert LARGE.of_target(LARGE.target(levels)) == levels
    assert LARGE.nearest(LARGE.ratios(levels)) == levels
    assert LARGE.x[LARGE.row(levels)].tolist() == list(LARGE.ratios(levels).as_tuple())
    assert LARGE.costs("macs")[LARGE.row(levels)] == LARGE.cost("macs", levels)


def test_rows_run_as_levels_do() -> None:
    assert LARGE.rows(list(LARGE)).tolist() == np.arange(len(LARGE)).tolist()


def test_what_is_not_on_the_lattice_is_refused() -> None:
    with pytest.raises(ConfigError, match="blocks=5"):
        SMALL.at(Place(5, 1.0, 32))
    with pytest.raises(ConfigError, match="latency_ms"):
        SMALL.costs("latency_ms")
