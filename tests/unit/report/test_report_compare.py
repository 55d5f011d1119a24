"""Several runs on one page: the same numbers as each run's own, and plain words on what cannot be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from triaxis.config import config_from_plain
from triaxis.errors import ConfigError
from triaxis.report import figures
from triaxis.report.compare import (
    Run,
    compare_runs,
    comparison_rows,
    differences,
    frontier_in,
    frontiers_plot,
    render_comparison,
    shared_metric,
)
from triaxis.report.records import Records
from triaxis.store.directory import RunDirectory
from triaxis.testing import FakeTrainer, chain_specs
from triaxis.values import CostTable


@pytest.fixture(scope="module")
def runs(make_records: Callable[..., Records]) -> list[Run]:
    return [Run(name="half", records=make_records(0.5)), Run(name="third", records=make_records(0.33))]


def other_digests(records: Records, **digests: str) -> Records:
    trials = tuple(dataclasses.replace(t, spec=dataclasses.replace(t.spec, **digests)) for t in records.trials)  # type: ignore[arg-type]
    return dataclasses.replace(records, trials=trials)


def test_a_frontier_in_the_budgets_metric_is_the_reports_own(runs: list[Run]) -> None:
    for run in runs:
        alone, found = figures.frontier_figure(run.records), frontier_in(run.records, "macs")
        assert alone and found
        assert (found.curve, found.chosen, found.measured) == (alone.curve, alone.chosen, alone.measured)


def test_the_table_has_each_runs_own_numbers(runs: list[Run]) -> None:
    rows = dict(comparison_rows([*runs, Run(name="new", records=Records())]))
    for number, run in enumerate(runs):
        assert run.records.verification
        assert rows["test accuracy"][number][0] == f"{100 * run.records.verification.compressed.test_accuracy:.1f} %"  # type: ignore[operator]
    assert [cell[0] for cell in rows["budget"]] == ["macs=50%", "macs=33%", "–"]
    assert rows["MACs"][2] == ("–", "")


def test_runs_of_one_base_model_are_drawn_in_shares_of_it_and_others_in_the_metrics_unit(runs: list[Run]) -> None:
    same = frontiers_plot(runs, "macs")
    assert same.x.suffix == " %" and [line.name for line in same.lines] == ["half", "third"]
    assert max(same.lines[0].x) == pytest.approx(100)
    table = runs[1].records.cost_table
    assert table
    dearer = tuple(tuple(tuple(2 * cost for cost in row) for row in plane) for plane in table.costs["macs"])
    twice = dataclasses.replace(runs[1].records, cost_table=dataclasses.replace(table, costs={"macs": dearer}))
    found = frontiers_plot([runs[0], Run(name="twice", records=twice)], "macs")
    base = table.base_cost("macs") / 1e6
    assert found.x.suffix == " M" and [max(line.x) for line in found.lines] == pytest.approx([base, 2 * base])


def test_the_metric_is_one_that_all_runs_have(runs: list[Run]) -> None:
    assert shared_metric(runs) == "macs"
    table = runs[1].records.cost_table
    assert isinstance(table, CostTable)
    only = dataclasses.replace(runs[1].records, cost_table=dataclasses.replace(table, costs={"latency_ms": table.costs["latency_ms"]}))
    assert shared_metric([runs[0], Run(name="b", records=only)]) == "latency_ms"
    assert shared_metric([Run(name="new", records=Records())]) is None
    assert "cannot be drawn together" in render_comparison([Run(name="new", records=Records())])


def test_other_data_other_base_models_and_other_devices_are_said(runs: list[Run]) -> None:
    assert differences(runs) == []
    data = Run(name="b", records=other_digests(runs[1].records, data_digest="other"))
    assert [said.partition(":")[0] for said in differences([runs[0], data])] == ["These runs do not have the same images"]
    base = Run(name="b", records=other_digests(runs[1].records, base_digest="other"))
    said = differences([runs[0], base])
    assert len(said) == 1 and said[0].startswith("These runs do not start from the same base model: half starts from cifar:resnet20 (val")
    verified = runs[1].records.verification
    assert verified
    moved = Run(name="b", records=dataclasses.replace(runs[1].records, verification=dataclasses.replace(verified, device="phone")))
    assert differences([runs[0], moved]) == ["Latencies were measured on different devices: half on cpu (2 cores); b on phone."]


def directory(place: Path, name: str) -> Path:
    trainer = FakeTrainer()
    run = RunDirectory(place / name)
    with run.open(config_from_plain({})) as store:
        for spec in chain_specs((0.7, 0.4)):
            store.put_trial(trainer(spec))
        store.put_record("cost_table", trainer.cost_table().to_json())
    return run.path


def test_the_page_of_directories_is_small_escaped_and_names_each(tmp_path: Path) -> None:
    paths = [directory(tmp_path, "a<b>"), directory(tmp_path, "c")]
    page = compare_runs(paths, tmp_path / "out.html")
    text = page.read_text()
    assert page.stat().st_size < 100_000 and "a&lt;b&gt;" in text and "a<b>" not in text
    assert not any(f"{name}=" in text for name in ("src", "href"))


def test_runs_of_one_name_are_told_apart_and_one_run_twice_is_refused(tmp_path: Path) -> None:
    paths = [directory(tmp_path / side, "run") for side in ("left", "right")]
    text = compare_runs(paths, tmp_path / "out.html").read_text()
    assert "left/run" in text and "right/run" in text
    with pytest.raises(ConfigError, match="named twice"):
        compare_runs([paths[0], tmp_path / "left" / "." / "run"], tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
