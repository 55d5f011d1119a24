"""Trials and the lattice."""

from __future__ import annotations

import pytest

from triaxis.collect import levels_of, targets
from triaxis.study.synthetic import cnn_cost, table_of

TABLE = table_of(macs=cnn_cost)


@pytest.mark.parametrize("levels", [(0, 0, 0), (3, 0, 0), (0, 9, 0), (0, 0, 11), (2, 5, 7)])
def test_a_trials_target_names_its_levels(levels: tuple[int, int, int]) -> None:
    assert levels_of(TABLE, targets(TABLE, levels)) == levels
