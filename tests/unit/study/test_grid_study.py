"""The analysis of a grid on accuracies whose answer is known."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from triaxis.study.grid_config import GridConfig, Place
from triaxis.study.grid_networks import NetworkResult, NetworkSpec
from triaxis.study.grid_report import GridReport, trainer_of
from triaxis.study.grid_study import noise_of, printed_places, study_grid
from triaxis.study.grid_text import markdown, missing_text
from triaxis.study.grid_time import time_shares
from triaxis.study.table1 import FAMILIES, points_of

CONFIG = GridConfig(depths=(8, 14, 20), widths=(0.6, 0.8, 1.0), sides_px=(16, 24, 32), cells=("cube",))
ENVIRONMENT = {
    "device": "a device",
    "threads": 2,
    "mode": {"precision": "fp32", "memory_format": "contiguous"},
    "peak_flops": 1e12,
    "workers": 1,
    "num_train": 100,
    "num_test": 1000,
    "data_digest": "abc",
    "versions": {"torch": "2"},
}


def separable(place: Place) -> float:
    layers, width, side_px = place
    return 0.95 * (1 - 0.8 / layers) * (1 - 0.1 * (1 - width)) * (1 - 0.2 * (1 - side_px / 32))


def done(spec: NetworkSpec, accuracy: float, seconds: float = 2.0) -> NetworkResult:
    return NetworkResult(
        spec=spec, state="done", accuracy=accuracy, num_test=1000, macs=10**6, num_images=500, seconds=seconds, images_per_second=250.0
    )


def trained(config: GridConfig, accuracy_of: Callable[[Place], float]) -> list[NetworkResult]:
    return [done(spec, accuracy_of((spec.layers, spec.width, spec.side_px))) for spec in config.networks("data")]


def report_of(config: GridConfig, results: Sequence[NetworkResult]) -> GridReport:
    return GridReport.of(config, results, ENVIRONMENT, 10.0)


@pytest.mark.parametrize("cells", [("cube",), ("a", "b", "c")])
def test_a_separable_grid_has_rank_one(cells: tuple[str, ...]) -> None:
    config = CONFIG.model_copy(update={"cells": cells})
    found = study_grid(config, trained(config, separable))
    assert found is not None
    assert [(a.table.name, a.table.accuracies.shape) for a in found.family.tables] == [("a", (3, 3)), ("b", (3, 3)), ("c", (3, 3))]
    for analysis in found.family.tables:
        assert np.abs(analysis.errors).max() < 1e-12 and analysis.nearest.share == pytest.approx(1, abs=1e-12)
    for check, num_slices in ((found.family.from_base, 7), (found.family.from_largest, 7)):
        assert len(check.errors) == len(config.places()) - num_slices
        assert np.abs(check.errors).max() < 1e-12
    assert found.rank.test is not None and found.rank.test.holds


def test_a_grid_that_is_not_separable_is_found_out() -> None:
    def bent(place: Place) -> float:
        return separable(place) - (0.1 if place[0] < 20 and place[1] < 1 else 0.0)

    found = study_grid(CONFIG, trained(CONFIG, bent))
    assert found is not None and found.rank.test is not None
    assert not found.rank.test.holds and "does not hold" in found.rank.verdict


def test_a_failed_network_leaves_its_sub_table_out_and_is_named() -> None:
    results = trained(CONFIG, separable)
    place = next(n for n, r in enumerate(results) if (r.spec.layers, r.spec.width, r.spec.side_px) == (8, 0.6, 32))
    results[place] = NetworkResult(spec=results[place].spec, state="failed", error="Traceback\nValueError: a reason")
    report = report_of(CONFIG, results)
    assert report.study is not None
    assert [a.table.name for a in report.study.family.tables] == ["a", "b"]
    assert "sub-table (c)" in missing_text(report)
    assert "| ResNet-8, width 0.6, 32 px, seed 0 | ValueError: a reason |" in markdown(report)


def test_nothing_finished_gives_a_report_without_a_study() -> None:
    report = report_of(CONFIG, [])
    assert report.study is None and report.trainer is None
    assert "No network is finished" in markdown(report)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_printed_table_is_61_networks_of_whole_blocks_and_pixels(family: str) -> None:
    config = GridConfig(depths=(8, 20, 32, 44, 56)) if family == "resnet" else GridConfig(family="densenet", depths=(16, 28, 40, 52, 64))
    printed = printed_places(family)  # type: ignore[arg-type]
    assert set(printed) == set(config.places())
    assert np.mean(list(printed.values())) == pytest.approx(np.mean([p.accuracy for p in points_of(config.family)]), abs=0.01)


def test_the_printed_table_one_point_higher_differs_by_one_point() -> None:
    config = GridConfig()
    printed = printed_places("resnet")
    found = study_grid(config, trained(config, lambda place: printed[place] + 0.01))
    assert found is not None and found.printed is not None
    assert len(found.printed.cells) == 61
    assert found.printed.mean_difference == pytest.approx(0.01) and found.printed.spread == pytest.approx(0, abs=1e-12)
    assert [(r.name, r.num_rows, r.num_columns) for r in found.printed.residuals] == [("a", 5, 5), ("b", 5, 5), ("c", 5, 5)]
    for residual in found.printed.residuals:
        assert residual.measured == pytest.approx(residual.printed, rel=0.1)


def test_a_small_grid_is_compared_where_cells_correspond() -> None:
    found = study_grid(CONFIG, trained(CONFIG, separable))
    assert found is not None and found.printed is not None
    # ResNet-14 is not in the table; ResNet-8 and -20 are at width 1 or at 32 px.
    assert len(found.printed.cells) == 2 * (3 + 3 - 1)
    assert {cell.place[0] for cell in found.printed.cells} == {8, 20}
    assert [(r.name, r.num_rows, r.num_columns) for r in found.printed.residuals] == [("b", 2, 3), ("c", 2, 3)]
    assert all(residual.measured < 1e-12 < residual.printed for residual in found.printed.residuals)


def test_noise_is_pooled_over_the_seeds_of_each_network() -> None:
    config = GridConfig(depths=(8, 14), widths=(1.0,), sides_px=(16,), seeds=(0, 1))
    found = noise_of([done(spec, 0.5 + (0.02 if spec.seed else 0.0)) for spec in config.networks("data")])
    assert found.seeds == pytest.approx(0.02 / np.sqrt(2))
    assert found.test_split == pytest.approx(np.sqrt(0.25 / 1000), rel=0.01)
    assert noise_of([done(spec, 0.5) for spec in config.networks("data") if not spec.seed]).seeds is None


def test_the_trainer_s_share_of_the_peak() -> None:
    results = trained(CONFIG, separable)
    found = trainer_of(results, ENVIRONMENT, 10.0)
    assert found is not None
    assert found.images_per_second == pytest.approx(27 * 500 / 10)
    assert found.share_of_peak == pytest.approx(27 * 500 * 6e6 / 10 / 1e12)


def test_the_report_is_plain_json_and_its_page_opens_offline(tmp_path) -> None:
    from triaxis.study.grid_report import write_report

    report = report_of(CONFIG, trained(CONFIG, separable))
    plain, text, page = write_report(report, tmp_path)
    found = json.loads(plain.read_text())
    assert len(found["networks"]) == 27 and found["networks"][0]["accuracy"] == pytest.approx(separable((20, 1.0, 32)))
    assert found["study"]["family"]["tables"][0]["nearest"]["share"] == pytest.approx(1)
    assert found["trainer"]["share_of_peak"] > 0
    assert "## (a) depth 0.67" in text.read_text() and "Beside the paper's Table 1" in text.read_text()
    html = page.read_text()
    assert len(html) < 200_000
    assert all(f'id="{name}"' in html for name in ("table-a", "table-b", "table-c", "cube", "test", "printed"))
    assert not re.findall(r"(src|href)\s*=", html)


def test_time_shares_recover_the_two_rates() -> None:
    specs = CONFIG.networks("data")
    seconds = [3e-4 * s.layers * s.width**2 * s.side_px**2 + 0.5 * s.layers for s in specs]
    finished = [done(spec, 0.5, seconds[n]) for n, spec in enumerate(specs[:5])]
    shares = time_shares(finished, specs[5:])
    assert len(shares) == 23 and shares[-1] == 1
    assert shares[0] == pytest.approx(sum(seconds[:5]) / sum(seconds))
    assert shares[1] == pytest.approx(sum(seconds[:6]) / sum(seconds))


def test_time_shares_at_the_ends() -> None:
    specs = CONFIG.networks("data")
    assert time_shares([], specs)[0] == 0
    assert time_shares([done(spec, 0.5) for spec in specs], []) == [1.0]
    shares = time_shares([done(spec, 0.5, 0.0) for spec in specs[:3]], specs[3:])
    assert all(a < b for a, b in itertools.pairwise(shares))
