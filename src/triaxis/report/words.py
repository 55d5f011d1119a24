"""Plain numbers -> the text of a report: formats, the headline, and advice that the numbers bear out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from triaxis.report.figures import AxisCurve, AxisShare, Comparison, Frontier, comparison, removal
from triaxis.report.records import Records
from triaxis.values import Budget, BudgetCheck, Verification, done_trials, metric_spec

_CARRIES = 0.6  # an axis with more than this share of the saved log cost is said to carry the cut
_TIME_SAVED = 0.9  # speed-up over MACs reduction from which saved MACs are said to have saved time


def percent(ratio: float, digits: int = 1) -> str:
    """Format a number in [0, 1] as ``97.8 %``."""
    return f"{100 * ratio:.{digits}f} %"


def points(difference: float) -> str:
    """Format a difference of accuracies as ``0.3 points``, without its sign."""
    shown = f"{100 * abs(difference):.1f}"
    return f"{shown} point{'' if shown == '1.0' else 's'}"


def count(number: float) -> str:
    """Format a count with three digits and k, M or G, such as ``40.6 M``."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * size:
            return f"{_three(number / size)}{letter}"
    return f"{number:.0f}"


def _three(number: float) -> str:
    """Format a number with three digits, or all before the point."""
    return f"{number:#.3g}".rstrip(".") if abs(number) < 999.5 else f"{number:.0f}"


def quantity(number: float, kind: str) -> str:
    """Format a number of a kind: accuracy, count, latency (milliseconds) or bytes."""
    if kind == "accuracy":
        return percent(number)
    if kind == "latency":
        return f"{_three(number)} ms"
    return f"{count(number)}B" if kind == "bytes" and number >= 1000 else count(number) + (" B" if kind == "bytes" else "")


def cost(number: float, metric: str) -> str:
    """Format a cost in a budget's metric."""
    unit = metric_spec(metric).unit
    kind = {"": "count", "ms": "latency", "B": "bytes"}.get(unit)
    return quantity(number, kind) if kind else f"{_three(number)} {unit}"


def spread(latency_ms: float) -> str:
    """Format the spread of a latency with two digits, such as ``±0.12 ms``."""
    return f"±{latency_ms:#.2g} ms" if latency_ms < 9.95 else f"±{latency_ms:.0f} ms"


def duration(seconds: float) -> str:
    """Format a time as ``20 ms``, ``0.4 s``, ``42 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def interval(bounds: tuple[float, float] | None) -> str:
    """Format an interval of accuracies as ``97.0 to 98.6 %``; empty for None."""
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %" if bounds else ""


def change(row: Comparison) -> str:
    """Say how one quantity changed: points for an accuracy, a speed-up for latency, per cent for the rest."""
    if row.kind == "accuracy":
        difference = row.compressed - row.base
        return f"{'+' if difference > 0 else '−'}{points(difference)}" if round(1000 * abs(difference)) else "no change"
    if row.kind == "latency":
        return speed(row.base / row.compressed)
    return f"{'−' if row.compressed <= row.base else '+'}{percent(abs(1 - row.compressed / row.base))}"


def speed(factor: float) -> str:
    """Format a speed-up as ``1.8x faster``, or ``1.2x slower``."""
    if abs(factor - 1) < 0.005:
        return "as fast"
    return f"{factor:.2f}x faster" if factor > 1 else f"{1 / factor:.2f}x slower"


def widest_batch(found: Verification) -> str | None:
    """Return the key of the largest batch at which both models were timed."""
    both = [key for key in found.base.latency_ms if key in found.compressed.latency_ms]
    return max(both, key=lambda key: int(key) if key.isdigit() else 0, default=None)


def told_batch(records: Records) -> str | None:
    """Return the key of the batch that the headline tells of: that of a latency budget, or else the largest."""
    found, solution = records.verification, records.solution
    if found is None:
        return None
    asked = str(records.config.get("profile", {}).get("latency_batch"))
    is_asked = solution is not None and any(budget.metric.startswith("latency") for budget in solution.budgets)
    both = asked in found.base.latency_ms and asked in found.compressed.latency_ms
    return asked if is_asked and both else widest_batch(found)


def speedup(found: Verification, batch: str) -> float:
    """Return base latency / compressed latency at one batch."""
    return found.base.latency_ms[batch] / found.compressed.latency_ms[batch]


def headline(records: Records) -> str:
    """Say the result in one line; what is only predicted, or not known yet, is said to be so."""
    found, solution = records.verification, records.solution
    if found is None and solution is None:
        done = len(done_trials(records.trials))
        return f"No result yet: {done} of the trials {'is' if done == 1 else 'are'} finished"
    if found is None:
        assert solution is not None and records.cost_table is not None
        left = solution.costs[solution.binding] / records.cost_table.base_cost(solution.binding)
        name, expected = metric_spec(solution.binding).title, percent(solution.predicted_accuracy)
        return f"{percent(1 - left, 0)} less {name} at a predicted val accuracy of {expected}; not cut yet"
    parts = [f"{percent(1 - found.compressed.macs / found.base.macs, 0)} fewer MACs"]
    if batch := told_batch(records):
        parts.append(f"{speed(speedup(found, batch))} at batch {batch}")
    row = next(iter(comparison(records) or ()))
    return f"{', '.join(parts)}, {row.name} {percent(row.compressed)} (base {percent(row.base)})"


def budget_text(budget: Budget) -> str:
    """Say a budget, such as ``MACs at most 50 % of the base model's (20.4 M)``."""
    limit, name = cost(budget.limit, budget.metric), metric_spec(budget.metric).title
    return f"{name} at most {percent(budget.fraction, 0)} of the base model's ({limit})" if budget.fraction else f"{name} at most {limit}"


def kept_text(records: Records) -> str | None:
    """Say what stays, such as ``6 of 9 blocks, 88 % of the channels, 28 of 32 px``."""
    found = removal(records)
    if found is None:
        return None
    channels = f"{percent(found.num_channels_kept / found.num_channels, 0)} of the channels"
    return f"{found.num_kept} of {found.num_blocks} blocks, {channels}, {found.side_px} of {found.base_side_px} px"


def lead(records: Records) -> list[str]:
    """Say what was asked for and what stays, one sentence each."""
    said = [f"Asked for: {budget_text(budget)}." for budget in (records.solution.budgets if records.solution else ())]
    if records.solution and records.solution.status == "extrapolated":
        said.append("This budget needs smaller keep ratios than any trial measured, so its predicted accuracy is an extrapolation.")
    if records.solution and records.solution.status == "unconstrained":
        said.append("The budget is not used up, because no cut that costs more is predicted to be more accurate.")
    said += [check_text(check) for check in (records.verification.checks if records.verification else ()) if check.is_met]
    kept = kept_text(records)
    return [*said, f"Kept: {kept}."] if kept else said


def missed(records: Records) -> list[str]:
    """Say which budgets the finished model misses, one sentence each."""
    return [check_text(check) for check in (records.verification.checks if records.verification else ()) if not check.is_met]


def check_text(check: BudgetCheck) -> str:
    """Say what share of the base model's cost the finished model has, and whether it is within its budget."""
    name, bounds = metric_spec(check.budget.metric).title, (100 * check.low, 100 * check.high)
    sure = f" ({bounds[0]:.1f} to {bounds[1]:.1f} %, measured in turns)" if bounds[0] < bounds[1] else ""
    reached = f"{percent(check.share)} of the base model's {name}{sure}"
    return f"Reached: {reached}." if check.is_met else f"Budget missed: {reached}, but {percent(check.limit_share)} were asked for."


def collection_text(records: Records) -> str | None:
    """Say how many trials there are and what they cost beside the base model's training."""
    if not records.trials:
        return None
    failed = len(records.trials) - len(done_trials(records.trials))
    said = f"{len(records.trials)} trials" + (f", {failed} of them failed" if failed else "")
    ratio = records.collection.get("cost_ratio")
    if ratio is None:
        return f"{said}."
    time_ratio = records.collection.get("time_ratio")
    time_text = f" Their wall time was {time_ratio:.2f} times that of the base model's training." if time_ratio is not None else ""
    effort = f"Their training took {ratio:.2f} times the effort of the base model's training (effort is images x MACs)."
    return f"{said}. {effort}{time_text}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _carrying(shares: Sequence[AxisShare], metric: str) -> str:
    saved, name = sorted((s for s in shares if s.share > 0), key=lambda s: -s.share), metric_spec(metric).title
    if not saved:
        return "Nothing is cut, because the base model meets the budget."
    if saved[0].share >= _CARRIES:
        return f"{saved[0].axis.capitalize()} gives most of the saved {name}: {percent(saved[0].share, 0)}, counted on a log scale."
    shared = _listed([f"{percent(s.share, 0)} from {s.axis}" for s in saved])
    return f"Several axes share the saved {name}: {shared}, counted on a log scale."


def _reason(shares: Sequence[AxisShare], metric: str, error: float) -> str | None:
    """Compare what cutting costs along each axis; differences below `error` are not taken to mean anything."""
    known = sorted((s.loss_per_halving, s.axis, s.share) for s in shares if s.loss_per_halving is not None)
    if len(known) < 2:
        return None
    prices = _listed([f"{round(100 * loss, 1) + 0.0:.1f} points along {axis}" for loss, axis, _ in known])
    said = f"Each axis was also measured alone. Halving the {metric_spec(metric).title} is predicted to cost accuracy: {prices}."
    alike = [axis for loss, axis, _ in known if loss - known[0][0] < error]
    if len(alike) > 1:
        return (
            f"{said} The predictor's own error on a trial that it has not seen is {points(error)}. "
            f"So the trials do not tell {_listed(alike)} apart."
        )
    cheapest, leading = known[0][1], max(known, key=lambda item: item[2])[1]
    if cheapest == leading:
        return f"{said} {cheapest.capitalize()} is the cheapest axis to cut, and it is cut most."
    return (
        f"{said} {cheapest.capitalize()} is the cheapest axis on average, but {leading} is cut most. "
        "The first steps along an axis cost less than its average."
    )


def _rivals(figure: Frontier) -> list[str]:
    chosen = figure.chosen
    if chosen is None:
        return []
    leads = {r.name: chosen.accuracy - r.point.accuracy for r in figure.rivals if r.point and r.point.ratios != chosen.ratios}
    said = [f"{name} is {_beside(lead)} this cut" for name, lead in leads.items()]
    sentences = [f"Other cuts within the same budget have these predicted accuracies: {_listed(said)}."] if said else []
    sentences += [f"The best cut with {r.name} is this same cut." for r in figure.rivals if r.point and r.name not in leads]
    sentences += [f"Cutting {r.name} cannot meet this budget." for r in figure.rivals if r.point is None]
    width = (chosen.high - chosen.low) / 2
    if close := [name for name, lead in leads.items() if lead < width]:
        good = f"A prediction is good to about ±{points(width)} (90 %)"
        sentences.append(f"{good}. So these trials alone do not show that this cut is better than {_listed(close)}.")
    return sentences


def _beside(lead: float) -> str:
    """Say how far another cut is below, in accuracy; what prints as 0.0 points is no difference."""
    if not round(1000 * abs(lead)):
        return "as accurate as"
    return f"{points(lead)} {'below' if lead > 0 else 'above'}"


def time_advice(found: Verification | None) -> str | None:
    """Say whether the saved MACs became saved time, and what to do if they did not."""
    batch = widest_batch(found) if found else None
    if found is None or batch is None or found.compressed.macs >= found.base.macs:
        return None
    fewer, faster = found.base.macs / found.compressed.macs, speedup(found, batch)
    share = f"{faster / fewer:.2f} of the reduction became speed" if faster <= fewer else "the speed grew by more than the MACs fell"
    said = f"The delivered model has {fewer:.2f}x fewer MACs and runs {speed(faster)} at batch {batch}. So {share}."
    if faster / fewer >= _TIME_SAVED:
        return said
    advised = "If time counts most for you, give a latency budget, such as --budget latency=50%."
    return f"{said} {advised} On this device, saved MACs save less time."


def advice(figure: Frontier | None, shares: Sequence[AxisShare] | None, records: Records) -> list[str]:
    """Say which axis carries the cut and why, how the alternatives compare, and whether the cut saved time."""
    said: list[str | None] = []
    if figure and shares:
        error = records.fit_report.leave_one_out_mae if records.fit_report else 0.0
        said += [_carrying(shares, figure.metric), _reason(shares, figure.metric, error), *_rivals(figure)]
    said.append(time_advice(records.verification))
    closed = (records.anatomy or {}).get("closed") or {}
    said += [f"The {axis} of this model cannot be cut: {reason}" for axis, reason in closed.items()]
    return [sentence for sentence in said if sentence]


def rise_text(curve: AxisCurve) -> str:
    """Say whether the measured accuracies along an axis only fall, or where and by how much they rise again."""
    chain = sorted(curve.trials, key=lambda e: -getattr(e.ratios, curve.axis))
    rises = [(after.measured - before.measured, after) for before, after in pairwise(chain)]
    largest, at = max(rises, key=lambda item: item[0], default=(0.0, None))
    if at is None or largest <= 0:
        return "The measured accuracy never rises when more is cut."
    half = (at.measured_interval[1] - at.measured_interval[0]) / 2 if at.measured_interval else None
    rise = f"The measured accuracy rises by {points(largest)} at {getattr(at.ratios, curve.axis):.2f}, although more is cut."
    if half is None:
        return rise
    return f"{rise} That is {'less' if largest <= half else 'more'} than the uncertainty of one trial, ±{points(half)} (95 %)."


def prediction_text(records: Records) -> list[str]:
    """Say how well the predictor fits its trials, and how the delivered model came out beside its prediction."""
    said, report, found = [], records.fit_report, records.verification
    if report:
        said.append(
            f"Each trial was predicted once from all the others. That was wrong by {points(report.leave_one_out_mae)} on average. "
            f"The fit is of kind {report.kind}, degree {report.degree} and rank {report.rank}, to {report.num_points} trials; "
            f"its root-mean-square residual is {points(report.rmse)}."
        )
    if found:
        side = "above" if found.prediction_error >= 0 else "below"
        off = f"That is {points(found.prediction_error)} {side} the predicted {percent(found.predicted_accuracy)}"
        said.append(
            f"The delivered model's val accuracy is {percent(found.compressed.val_accuracy)}. {off}. "
            "A result above its prediction is usual: a trial is fine-tuned for a short time, and the delivered model for longer."
        )
    return said
