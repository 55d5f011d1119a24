from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from triaxis.study.page import write_table1_page
from triaxis.study.synthetic import measure, separable
from triaxis.study.table1 import FAMILIES, points_of, read_cells, study_table1, sub_table
from triaxis.study.tables import check_cube, planes
from triaxis.values import KeepRatios


def test_all_150_cells_are_there_with_25_in_each_sub_table() -> None:
    cells = read_cells()
    assert len(cells) == 150
    for family in FAMILIES:
        assert len(points_of(family)) == 75
        for name in "abc":
            assert sub_table(cells, family, name).accuracies.shape == (5, 5)
    assert (cells[0].point.accuracy, cells[-1].point.accuracy) == (0.9059, 0.9453)


def test_the_corrected_depth_of_sub_table_a_is_proved_by_its_digits() -> None:
    """(a)'s row w = 1 is (b)'s row d = 0.55, not its row d = 1."""
    cells = read_cells()
    a, b = (sub_table(cells, "resnet", name) for name in "ab")
    assert np.array_equal(a.accuracies[a.rows.index(1.0)], b.accuracies[b.rows.index(0.55)])
    assert np.abs(a.accuracies[a.rows.index(1.0)] - b.accuracies[b.rows.index(1.0)]).min() > 0.006
    a, b = (sub_table(cells, "densenet", name) for name in "ab")
    assert np.abs(a.accuracies[a.rows.index(1.0)] - b.accuracies[b.rows.index(0.6)]).max() < 0.0021
    assert np.abs(a.accuracies[a.rows.index(1.0)] - b.accuracies[b.rows.index(1.0)]).min() > 0.014


def test_sub_table_c_has_depth_across_as_its_last_row_shows() -> None:
    cells = read_cells()
    b, c = (sub_table(cells, "densenet", name) for name in "bc")
    assert np.array_equal(c.accuracies[:, c.columns.index(1.0)], b.accuracies[:, b.columns.index(1.0)])


def test_eq_6_from_the_largest_network_is_off_by_what_is_known() -> None:
    resnet, densenet = study_table1()
    assert (len(resnet.from_largest.errors), len(resnet.from_base.errors)) == (56, 48)
    assert 100 * np.abs(resnet.from_largest.errors).mean() == pytest.approx(0.39, abs=0.005)
    assert 100 * np.abs(densenet.from_largest.errors).mean() == pytest.approx(0.45, abs=0.005)


def test_the_reference_row_and_column_are_exact_and_left_out_of_the_errors() -> None:
    for study in study_table1():
        for found in study.tables:
            row, column = found.table.reference
            assert np.allclose(found.predicted[row], found.table.accuracies[row])
            assert np.allclose(found.predicted[:, column], found.table.accuracies[:, column])
            assert len(found.errors) == 16
            assert np.sum(np.abs(found.errors)) == pytest.approx(np.sum(np.abs(found.table.accuracies - found.predicted)))
            assert np.abs(found.errors).max() > 0.004
            assert found.spreads[row] == 0
            assert 0.98 < found.nearest.share_of_variation < found.nearest.share < 1


def test_planes_are_cut_from_a_grid_and_a_missing_cell_drops_its_plane() -> None:
    grid = np.stack(np.meshgrid([1, 0.5], [1, 0.8, 0.6], [1, 0.75], indexing="ij"), -1).reshape(-1, 3)
    points = measure(separable, grid)
    tables = planes(points, KeepRatios())
    assert [t.name for t in tables] == ["a", "b", "c"]
    assert tables[2].accuracies[0, 1] == pytest.approx(separable(np.array([[0.5, 0.8, 1]]))[0])
    assert np.abs(check_cube(points, KeepRatios()).errors).max() < 1e-12
    missing = [p for p in points if p.ratios.as_tuple() != (0.5, 0.8, 1)]
    assert [t.name for t in planes(missing, KeepRatios())] == ["a", "b"]


def test_the_page_is_one_file_that_fetches_nothing_and_holds_the_numbers(tmp_path: Path) -> None:
    page = write_table1_page(study_table1(), tmp_path / "table1.html").read_text(encoding="utf-8")
    assert "84.51" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    figures = re.findall(r'<figure class="plot" id="[^"]+">(.*?)</figure>', page, flags=re.DOTALL)
    assert len(figures) == 8
    assert figures[0].count("<polyline") == 5
    said = re.findall(r'data-says="width 0.60, resolution [\d.]+: ([\d.]+)\s% measured"', figures[0])
    assert said == ["83.19", "86.59", "88.51", "89.43", "90.59"]
