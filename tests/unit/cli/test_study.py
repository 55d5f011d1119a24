from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.study.synthetic import axis_ratios, separable

RUNNER = CliRunner()


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    rows = [f"{d},{w},{r},{y}" for (d, w, r), y in zip(axis_ratios(), separable(axis_ratios()), strict=True)]
    path.write_text("\n".join(["depth,width,resolution,accuracy", *rows]), encoding="utf-8")
    return path


def test_table1_prints_six_sub_tables_and_writes_its_page(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["study", "table1", "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0
    assert done.output.count("accuracy in %") == 6
    assert done.output.count("eq. 6 from slices") == 4
    assert 1e5 < (tmp_path / "page.html").stat().st_size < 1e6


def test_table1_as_json() -> None:
    plain = json.loads(RUNNER.invoke(app, ["study", "table1", "--json"]).output)
    assert [family["family"] for family in plain] == ["resnet", "densenet"]
    assert plain[0]["eq6_from_largest"]["mae"] == pytest.approx(0.0039, abs=5e-5)


def test_rank_of_a_missing_run_is_one_sentence(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["study", "rank", str(tmp_path / "none")])
    assert done.exit_code not in (0, 1)


def test_fit_points_predicts_and_solves_within_the_formula(points: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("depth,width,resolution\n0.8,0.8,0.8\n", encoding="utf-8")
    done = RUNNER.invoke(app, ["fit", str(points), "--predict", str(other), "--budget", "macs=40%", "--json"])
    plain = json.loads(done.output)
    (row,) = plain["predictions"]
    assert row["low"] < row["accuracy"] < row["high"]
    assert row["accuracy"] == pytest.approx(separable(np.array([[0.8, 0.8, 0.8]]))[0], abs=0.006)
    x = plain["solution"]["ratios"]
    assert x["depth"] * x["width"] ** 2 * x["resolution"] ** 2 <= 0.4
    assert plain["fit_report"]["num_points"] == 13
    assert "best within budget" in RUNNER.invoke(app, ["fit", str(points), "--budget", "params=40%"]).output


def test_fit_points_refuses_budgets_that_a_file_cannot_price(points: Path) -> None:
    done = RUNNER.invoke(app, ["fit", str(points), "--budget", "latency=3ms"])
    assert done.exit_code == 3


def test_fit_points_refuses_two_budgets_for_one_metric(points: Path) -> None:
    done = RUNNER.invoke(app, ["fit", str(points), "--budget", "macs=40%", "--budget", "macs=60%"])
    assert done.exit_code == 3 and "at most one budget for each metric" in " ".join(done.stderr.split())


def test_fit_points_takes_ten_thousand_rows(tmp_path: Path) -> None:
    """Half of the rows measure a place again."""
    rng = np.random.default_rng(0)
    x = np.tile(rng.uniform(0.3, 1.0, (5000, 3)), (2, 1))
    y = separable(x) + 0.002 * rng.normal(size=len(x))
    path = tmp_path / "many.csv"
    path.write_text("\n".join(["depth,width,resolution,accuracy", *(f"{d},{w},{r},{v}" for (d, w, r), v in zip(x, y, strict=True))]))
    start = time.process_time()
    done = RUNNER.invoke(app, ["fit", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert time.process_time() - start < 5
    report = json.loads(done.output)["fit_report"]
    assert (report["num_points"], report["num_distinct"]) == (10_000, 5000) and report["rmse"] < 0.003
