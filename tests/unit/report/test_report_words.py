"""What the report says, on numbers whose right words are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from triaxis.report import figures, words
from triaxis.report.records import Records
from triaxis.values import Budget, KeepRatios


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.percent(0.978), "97.8 %"),
        (words.points(-0.003), "0.3 points"),
        (words.points(0.01), "1.0 point"),
        (words.count(40_550_000), "40.5 M"),
        (words.count(999_700), "1.00 M"),
        (words.count(272_474), "272 k"),
        (words.count(16), "16"),
        (words.quantity(1_089_896, "bytes"), "1.09 MB"),
        (words.quantity(640, "bytes"), "640 B"),
        (words.quantity(1.0 / 3, "latency"), "0.333 ms"),
        (words.quantity(1234.5, "latency"), "1234 ms"),
        (words.spread(0.1), "±0.10 ms"),
        (words.spread(123.4), "±123 ms"),
        (words.duration(0.02), "20 ms"),
        (words.duration(59.6), "1 min 00 s"),
        (words.duration(3725), "1 h 02 min"),
        (words.speed(1.8), "1.80x faster"),
        (words.speed(0.5), "2.00x slower"),
        (words.speed(1.001), "as fast"),
        (words.interval((0.97, 0.986)), "97.0 to 98.6 %"),
    ],
)
def test_formats(said: str, wanted: str) -> None:
    assert said == wanted


def test_headline_of_a_finished_run(records: Records) -> None:
    assert records.verification
    base, cut = records.verification.base, records.verification.compressed
    base = dataclasses.replace(base, macs=1000, latency_ms={"1": 3.0, "64": 90.0}, test_accuracy=0.981)
    cut = dataclasses.replace(cut, macs=540, latency_ms={"1": 3.0, "64": 50.0}, test_accuracy=0.978)
    found = dataclasses.replace(records, verification=dataclasses.replace(records.verification, base=base, compressed=cut))
    assert words.headline(found) == "46 % fewer MACs, 1.80x faster at batch 64, test accuracy 97.8 % (base 98.1 %)"


def test_headline_tells_of_the_batch_that_a_latency_budget_speaks_of(records: Records) -> None:
    assert records.verification and records.solution
    base = dataclasses.replace(records.verification.base, latency_ms={"1": 3.0, "64": 90.0})
    cut = dataclasses.replace(records.verification.compressed, latency_ms={"1": 1.2, "64": 50.0})
    timed = dataclasses.replace(records, verification=dataclasses.replace(records.verification, base=base, compressed=cut))
    budget = Budget(metric="latency_ms", limit=1.5, fraction=0.5)
    asked = dataclasses.replace(
        timed,
        config={"profile": {"latency_batch": 1}},
        solution=dataclasses.replace(records.solution, budgets=(budget,), binding="latency_ms"),
    )
    assert "1.80x faster at batch 64" in words.headline(timed) and "2.50x faster at batch 1," in words.headline(asked)
    # A batch that was not timed has nothing to tell.
    assert "batch 64" in words.headline(dataclasses.replace(asked, config={"profile": {"latency_batch": 8}}))


def test_headline_says_that_accuracy_is_balanced(records: Records) -> None:
    assert ", test accuracy" in words.headline(records)
    assert ", balanced test accuracy" in words.headline(dataclasses.replace(records, config={"fit": {"target": "balanced_accuracy"}}))


def test_headline_says_what_is_not_known_yet(records: Records) -> None:
    assert words.headline(Records()).startswith("No result yet: 0 ")
    assert words.headline(Records(trials=records.trials[:1])).startswith("No result yet: 1 of the trials is")
    assert "predicted" in words.headline(dataclasses.replace(records, verification=None))


def test_advice_names_the_axis_that_carries_the_cut_and_the_price_of_each(make_records: Callable[..., Records]) -> None:
    found = make_records(0.35)
    said = " ".join(words.advice(figures.frontier_figure(found), figures.axis_shares(found), found))
    assert "Width gives most of the saved MACs" in said
    assert "Width is the cheapest axis to cut, and it is cut most" in said
    assert "Cutting depth only cannot meet this budget." in said


def test_advice_does_not_call_a_dear_axis_cheap(records: Records) -> None:
    shares = figures.axis_shares(records)
    assert shares
    dear = [dataclasses.replace(s, share=1.0 if s.axis == "resolution" else 0.0) for s in shares]
    said = " ".join(words.advice(figures.frontier_figure(records), dear, records))
    assert "Resolution gives most of the saved MACs: 100 %" in said and "but resolution is cut most" in said
    assert "cheapest axis to cut" not in said


def test_prices_that_the_predictor_cannot_tell_apart_are_not_ranked(records: Records) -> None:
    assert records.fit_report
    vague = dataclasses.replace(records, fit_report=dataclasses.replace(records.fit_report, leave_one_out_mae=0.01))
    said = " ".join(words.advice(figures.frontier_figure(vague), figures.axis_shares(vague), vague))
    assert "do not tell width and depth apart" in said and "cheapest" not in said


def test_a_rival_that_is_the_chosen_cut_is_called_so(records: Records) -> None:
    found, shares = figures.frontier_figure(records), figures.axis_shares(records)
    assert found and found.chosen
    same = (figures.Rival(name="width only", point=found.chosen),)
    said = " ".join(words.advice(dataclasses.replace(found, rivals=same), shares, records))
    assert "The best cut with width only is this same cut." in said and "do not show" not in said


def test_a_lead_smaller_than_the_interval_is_called_unsettled(records: Records) -> None:
    found = figures.frontier_figure(records)
    assert found and found.chosen
    other = dataclasses.replace(found.chosen, ratios=KeepRatios(width=0.5), accuracy=found.chosen.accuracy - 0.0005)
    near = figures.Rival(name="equal split", point=other)
    shares = figures.axis_shares(records)
    said = " ".join(words.advice(dataclasses.replace(found, rivals=(near,)), shares, records))
    assert "do not show that this cut is better than equal split" in said
    far = dataclasses.replace(other, accuracy=found.chosen.accuracy - 0.2)
    said = " ".join(words.advice(dataclasses.replace(found, rivals=(dataclasses.replace(near, point=far),)), shares, records))
    assert "do not show" not in said


@pytest.mark.parametrize(("latency", "is_advised"), [(50.0, False), (95.0, True), (120.0, True)])
def test_a_latency_budget_is_advised_where_saved_macs_saved_no_time(records: Records, latency: float, is_advised: bool) -> None:
    assert records.verification
    base = dataclasses.replace(records.verification.base, macs=1000, latency_ms={"64": 100.0})
    cut = dataclasses.replace(records.verification.compressed, macs=500, latency_ms={"64": latency})
    said = words.time_advice(dataclasses.replace(records.verification, base=base, compressed=cut))
    assert said and ("latency budget" in said) is is_advised


def test_closed_axes_are_explained(records: Records) -> None:
    found = Records(anatomy={"blocks": [], "closed": {"width": "features.0 cannot be traced."}})
    assert words.advice(None, None, found) == ["The width of this model cannot be cut: features.0 cannot be traced."]


def test_a_rising_curve_is_admitted(records: Records) -> None:
    curve = next(iter(figures.axis_curves(records) or ()))
    assert words.rise_text(curve) == "The measured accuracy never rises when more is cut."

    def estimate(depth: float, measured: float) -> figures.Estimate:
        ends = (measured - 0.005, measured + 0.005)
        shown = {"measured": measured, "measured_interval": ends, "predicted": 0.9, "low": 0.8, "high": 1.0}
        return figures.Estimate(axis="depth", ratios=KeepRatios(depth=depth), **shown)  # type: ignore[arg-type]

    bent = dataclasses.replace(curve, trials=(estimate(0.5, 0.90), estimate(1.0, 0.92), estimate(0.75, 0.88)))
    rise = "The measured accuracy rises by 2.0 points at 0.50, although more is cut."
    assert words.rise_text(bent) == f"{rise} That is more than the uncertainty of one trial, ±0.5 points (95 %)."


def test_an_extrapolated_budget_is_said_to_be_one(records: Records) -> None:
    assert records.solution
    found = dataclasses.replace(records, solution=dataclasses.replace(records.solution, status="extrapolated"))
    assert any("extrapolation" in sentence for sentence in words.lead(found))
    assert not any("extrapolation" in sentence for sentence in words.lead(records))


def test_a_budget_that_is_not_used_up_is_said_to_be_so(records: Records) -> None:
    assert records.solution
    found = dataclasses.replace(records, solution=dataclasses.replace(records.solution, status="unconstrained"))
    assert any("not used up" in sentence for sentence in words.lead(found))


def test_the_collections_price_is_told_in_macs_and_in_time(records: Records) -> None:
    told = words.collection_text(dataclasses.replace(records, collection={"cost_ratio": 0.43, "time_ratio": 0.97}))
    assert told is not None and "took 0.43 times the effort of the base model's training (effort is images x MACs)." in told
    assert told.endswith("Their wall time was 0.97 times that of the base model's training.")
    assert "wall time" not in (words.collection_text(records) or "")
