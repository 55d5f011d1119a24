"""The numbers behind each figure, against what can be said without the code under test."""

from __future__ import annotations

import dataclasses
import math

import pytest

from triaxis.report import figures, times
from triaxis.report.records import Records, read_records
from triaxis.store import MemoryStore
from triaxis.values import AXES, FailedTrial, PrunePlan, done_trials

STORED = ("cost_table", "predictor", "fit_report", "solution", "plan", "verification")
PLAIN = ("config", "anatomy", "base", "seconds", "collection", "environment")


def test_records_come_back_from_a_store_as_they_were_written(records: Records) -> None:
    store = MemoryStore()
    for trial in records.trials:
        store.put_trial(trial)
    for key in STORED:
        store.put_record(key, getattr(records, key).to_json())
    for key in PLAIN:
        store.put_record(key, getattr(records, key))
    assert read_records(store) == records


def test_an_empty_store_gives_empty_records() -> None:
    assert read_records(MemoryStore()) == Records()


@pytest.mark.parametrize(
    "figure",
    [
        figures.frontier_figure,
        figures.axis_curves,
        figures.axis_shares,
        figures.predicted_measured,
        figures.comparison,
        figures.removal,
        figures.stage_seconds,
    ],
)
def test_a_figure_without_its_records_is_none(figure) -> None:  # type: ignore[no-untyped-def]
    assert figure(Records()) is None


def test_wilson_is_its_closed_form() -> None:
    p, n, z = 0.9, 400, 1.959963984540054
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    assert figures.val_interval(Records(collection={"num_val": n}), p) == pytest.approx(expected, abs=1e-9)
    assert figures.val_interval(Records(), p) is None


def test_the_interval_that_the_task_gave_goes_before_one_made_of_the_number_of_images() -> None:
    assert figures.val_interval(Records(collection={"num_val": 400}), 0.9, (0.5, 0.95)) == (0.5, 0.95)


def test_the_interval_of_a_balanced_accuracy_is_not_that_of_all_images() -> None:
    """Of 910 images 900 are of one class: the ten of the other make the balanced accuracy far less sure."""
    records = Records(collection={"num_val": 910, "val_class_sizes": [900, 10]})
    low, high = figures.val_interval(records, 0.9) or (0.0, 0.0)
    of_all_images = figures.val_interval(Records(collection={"num_val": 910}), 0.9)
    assert low < 0.82 and high > 0.93 and of_all_images and of_all_images[0] > 0.87


def test_the_chosen_cut_is_within_budget_and_no_rival_is_predicted_better(records: Records) -> None:
    found = figures.frontier_figure(records)
    assert found and found.chosen and found.budget
    assert found.budget.slack(found.chosen.cost) >= 0
    rivals = [rival.point for rival in found.rivals if rival.point and not rival.is_extrapolated]
    assert rivals
    for point in rivals:
        assert found.budget.slack(point.cost) >= 0
        assert point.accuracy <= found.chosen.accuracy + 1e-12
    assert [rival.name for rival in found.rivals if rival.point is None] == ["depth only"]


def test_the_frontier_rises_and_lies_above_every_single_axis(records: Records) -> None:
    found = figures.frontier_figure(records)
    assert found
    assert all(a.cost < b.cost and a.accuracy <= b.accuracy for a, b in zip(found.curve, found.curve[1:], strict=False))
    for points in found.axes.values():
        for point in points:
            reached = [p.accuracy for p in found.curve if p.cost <= point.cost * 1.01]
            assert not reached or max(reached) >= point.accuracy - 0.001
            assert sum(ratio < 1 for ratio in point.ratios.as_tuple()) <= 1
    assert min(point.ratios.resolution for point in found.axes["resolution"]) == 0.5, "the table goes on to 12 px, the trials end at 16"


def test_the_view_holds_what_is_compared(records: Records) -> None:
    found = figures.frontier_figure(records)
    assert found and found.chosen and found.measured
    (left, right), (low, high) = figures.frontier_view(found)
    marks = [(r.point.fraction, r.point.accuracy) for r in found.rivals if r.point] + [(1.0, found.curve[-1].accuracy), found.measured]
    assert all(left < fraction < right and low < accuracy < high for fraction, accuracy in marks)


def test_axis_curves_pass_near_their_trials(records: Records) -> None:
    curves = figures.axis_curves(records)
    assert curves and [curve.axis for curve in curves] == list(AXES)
    for curve in curves:
        assert {trial.axis for trial in curve.trials} == {curve.axis, "base"}
        assert all(low <= a <= high for low, a, high in zip(curve.low, curve.accuracy, curve.high, strict=True))
        assert min(curve.ratio) == pytest.approx(min(getattr(t.ratios, curve.axis) for t in curve.trials))
        assert all(abs(t.measured - t.predicted) < 0.004 for t in curve.trials)


def test_shares_of_the_saved_log_cost(records: Records) -> None:
    shares = figures.axis_shares(records)
    assert shares and records.cost_table and records.solution
    assert sum(share.share for share in shares) == pytest.approx(1)
    depth = shares[0]
    row = records.cost_table.blocks.index(records.solution.blocks)
    assert depth.fraction == pytest.approx(records.cost_table.costs["macs"][row][0][0] / records.cost_table.base_cost("macs"))
    by_price = sorted(shares, key=lambda share: share.loss_per_halving or 0)
    assert [share.axis for share in by_price] == ["width", "depth", "resolution"]


def test_an_uncut_model_has_no_share_and_no_division_by_zero(records: Records) -> None:
    assert records.cost_table and records.solution
    uncut = dataclasses.replace(
        records.solution, ratios=figures.KeepRatios(), blocks=9, width=1.0, side_px=32, costs={"macs": records.cost_table.base_cost("macs")}
    )
    shares = figures.axis_shares(dataclasses.replace(records, solution=uncut))
    assert shares and [share.share for share in shares] == [0, 0, 0]


def test_comparison_without_test_accuracy_starts_with_val(records: Records) -> None:
    assert records.verification
    closed = {"test_accuracy": None, "test_interval": None}
    base, cut = (dataclasses.replace(m, **closed) for m in (records.verification.base, records.verification.compressed))  # type: ignore[arg-type]
    rows = figures.comparison(
        dataclasses.replace(records, verification=dataclasses.replace(records.verification, base=base, compressed=cut))
    )
    assert rows and [row.name for row in rows] == ["val accuracy", "MACs", "params", "latency, batch 1", "latency, batch 64", "file"]


def test_removal_counts_blocks_by_stage_and_channels(records: Records) -> None:
    found = figures.removal(records)
    assert found and records.plan
    flat = [block for stage in found.stages for block in stage]
    assert len(found.stages) == 3 and len(flat) == 9
    assert [name for name, is_kept in flat if not is_kept] == list(records.plan.removed_blocks)
    assert found.num_channels_kept == 352 - sum(before - after for _, before, after in found.groups)
    assert found.num_channels_kept / found.num_channels == pytest.approx(records.plan.achieved.width)


def test_removal_without_anatomy_names_the_removed_blocks() -> None:
    plan = PrunePlan(num_blocks=3, removed_blocks=("b",), num_channels=8, base_side_px=8, side_px=8)
    found = figures.removal(Records(plan=plan))
    assert found and found.stages == ((("b", False),),) and found.num_kept == 2


def test_failed_trials_take_no_part(records: Records) -> None:
    failed = FailedTrial(spec=records.trials[-1].spec, error="boom")
    estimates = figures.predicted_measured(dataclasses.replace(records, trials=(*records.trials[:-1], failed)))
    assert estimates and len(estimates) == len(records.trials) - 1


def test_stairs_go_on_level_until_the_next_cut(records: Records) -> None:
    found = figures.frontier_figure(records)
    assert found
    first, second = (dataclasses.replace(found.curve[0], fraction=f, accuracy=a) for f, a in ((0.2, 0.8), (0.5, 0.9)))
    assert [(p.fraction, p.accuracy) for p in figures.stairs((second, first))] == [(0.2, 0.8), (0.5, 0.8), (0.5, 0.9)]
    short = dataclasses.replace(found, curve=(first, second))
    assert [(p.fraction, p.accuracy) for p in short.drawn] == [(0.2, 0.8), (0.5, 0.8), (0.5, 0.9), (1.0, 0.9)]
    assert figures.stairs(short.drawn) == short.drawn


def test_stages_are_told_in_the_order_they_run() -> None:
    found = figures.stage_seconds(Records(seconds={"verify": 1.0, "base": 2.0, "collect": 4.0, "other": 1.0}))
    assert found == (("base", 2.0, 0.25), ("collect", 4.0, 0.5), ("verify", 1.0, 0.125), ("other", 1.0, 0.125))


def test_the_trials_time_is_divided_among_parts_and_what_none_claims_is_other(records: Records) -> None:
    first, second, *_ = done_trials(records.trials)
    trials = (
        dataclasses.replace(first, seconds=10.0, seconds_by_part={"training": 6.0, "teacher": 1.0}),
        dataclasses.replace(second, seconds=5.0, seconds_by_part={"training": 4.0}),
    )
    found = times.part_seconds(dataclasses.replace(records, trials=trials))
    assert found == (("teacher", 1.0, 1 / 15), ("training", 10.0, 10 / 15), ("other", 4.0, 4 / 15))


def test_trials_of_an_earlier_version_have_no_parts(records: Records) -> None:
    assert times.part_seconds(records) is None
