"""Several runs -> one page that opens offline: their results side by side, and their frontiers in one drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from triaxis.errors import ConfigError
from triaxis.maths.frontier import frontier
from triaxis.report import words
from triaxis.report.draw import Band, Chart, Line, Mark, Scale
from triaxis.report.figures import Frontier, comparison, cut_point, frontier_view, val_interval
from triaxis.report.records import Records, read_records
from triaxis.report.templates import templates
from triaxis.store.directory import RunDirectory
from triaxis.store.files import write_text
from triaxis.values import metric_spec
from triaxis.values.score import said

LOOKS = (
    ("chosen", "diamond", ""),
    ("depth", "down", "8 5"),
    ("width", "square", "2 4"),
    ("resolution", "circle", "9 4 2 4"),
    ("joint", "plus", "4 3"),
    ("measured", "up", "12 4"),
    ("brown", "star", "1 3"),
)
"""Ink, shape and dash of each run in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One of the runs that are compared, with the name it has on the page."""

    name: str
    records: Records


def compare_runs(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Write the page that compares runs, finished or not, whole or not at all; return its path.

    Raises:
        ConfigError: A run is named twice.
        StoreError: A directory holds no run, or the page cannot be written.
    """
    runs = []
    for path, name in zip(paths, _names(paths), strict=True):
        with RunDirectory(path).read() as store:
            runs.append(Run(name=name, records=read_records(store)))
    return write_text(Path(out), render_comparison(runs))


def _names(paths: Sequence[str | Path]) -> list[str]:
    """Return the directories' names; the whole paths where two have the same name."""
    places = [Path(path).resolve() for path in paths]
    if len(set(places)) < len(places):
        raise ConfigError("Runs to compare must be different directories, but one is named twice: name each run once.")
    names = [place.name for place in places]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def render_comparison(runs: Sequence[Run]) -> str:
    """Return the page's text."""
    metric = shared_metric(runs)
    page = {
        "version": version("triaxis"),
        "names": [run.name for run in runs],
        "differences": differences(runs),
        "rows": comparison_rows(runs),
        "chart": frontiers_plot(runs, metric) if metric else None,
        "left_out": [run.name for run in runs if frontier_in(run.records, metric) is None] if metric else [],
        "metric": metric_spec(metric).title if metric else None,
    }
    names = {run.records.score for run in runs}
    return said(templates().get_template("compare.html").render(page), names.pop() if len(names) == 1 else "score")


def shared_metric(runs: Sequence[Run]) -> str | None:
    """Return the metric in which the frontiers are drawn: one that every fitted run has, the first run's budget if possible."""
    tables = [run.records.cost_table for run in runs if run.records.cost_table and run.records.predictor]
    wanted = [run.records.solution.binding for run in runs if run.records.solution]
    known = [metric for table in tables[:1] for metric in table.costs]
    return next((metric for metric in (*wanted, *known) if all(metric in table.costs for table in tables)), None) if tables else None


def frontier_in(records: Records, metric: str, num: int = 200) -> Frontier | None:
    """Return a run's frontier in a metric, with its chosen cut and what was measured; None if it is not fitted or has no such costs."""
    table, predictor, solution, verified = records.cost_table, records.predictor, records.solution, records.verification
    if table is None or predictor is None or metric not in table.costs:
        return None
    base = table.base_cost(metric)
    curve = tuple(dict.fromkeys(cut_point(s, metric, base) for s in frontier(predictor, table, metric, num)))
    chosen = cut_point(solution, metric, base) if solution and metric in solution.costs else None
    accuracy = verified.compressed.val_accuracy if verified else None
    return Frontier(
        metric=metric,
        base_cost=base,
        curve=curve,
        axes={},
        budget=next((b for b in solution.budgets if b.metric == metric), None) if solution else None,
        chosen=chosen,
        measured=(chosen.fraction, accuracy) if chosen and accuracy is not None else None,
        measured_interval=val_interval(records, accuracy) if accuracy is not None else None,
    )


def frontiers_plot(runs: Sequence[Run], metric: str) -> Chart:
    """Draw the frontiers of all runs: in shares of the base model's cost if they begin at one cost, else in the metric's unit."""
    found = [(run, figure) for run in runs if (figure := frontier_in(run.records, metric)) is not None]
    costs = [figure.base_cost for _, figure in found]
    title = metric_spec(metric).title
    if max(costs) <= 1.001 * min(costs):
        x_title, factor, suffix = f"{title}, % of the base model's", 100 / costs[0], " %"
    else:
        factor, suffix = _unit(max(costs), metric)
        x_title = title
    views = [frontier_view(figure) for _, figure in found]
    floor, ceiling = min(view[1][0] for view in views), max(view[1][1] for view in views)
    low = min(view[0][0] * cost for view, cost in zip(views, costs, strict=True)) * factor
    bands, lines, marks = [], [], []
    for number, (run, figure) in enumerate(found):
        ink, shape, dash = LOOKS[number % len(LOOKS)]
        scale = factor * figure.base_cost
        x, drawn = [scale * point.fraction for point in figure.drawn], figure.drawn
        bands.append(Band(x=x, low=[100 * p.low for p in drawn], high=[100 * p.high for p in drawn], ink=ink))
        lines.append(Line(x=x, y=[100 * p.accuracy for p in drawn], ink=ink, dash=dash, name=run.name, width=2.4))
        marks += _marks(run.name, figure, scale, ink, shape)
    return Chart(
        name="frontiers",
        label=f"Predicted val accuracy against {title} of {len(found)} runs.",
        x=Scale(title=x_title, low=max(0.0, low), high=1.02 * factor * max(costs), suffix=suffix),
        y=Scale(title="val accuracy", low=100 * floor, high=100 * ceiling, suffix=" %", max_ticks=8),
        height=420,
        bands=tuple(bands),
        lines=tuple(lines),
        marks=tuple(marks),
    )


def _unit(largest: float, metric: str) -> tuple[float, str]:
    """Return what to multiply costs with, and the suffix that they then have."""
    unit = metric_spec(metric).unit
    if unit not in ("", "B"):
        return 1.0, f" {unit}"
    size, letter = next(((s, k) for s, k in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= s), (1.0, ""))
    return 1 / size, f" {letter}{unit}".rstrip()


def _marks(name: str, figure: Frontier, scale: float, ink: str, shape: str) -> list[Mark]:
    marks = []
    if figure.chosen:
        at, ratios = figure.chosen, figure.chosen.ratios
        cut = f"depth {ratios.depth:.2f}, width {ratios.width:.2f}, resolution {ratios.resolution:.2f}"
        says = f"{name}, chosen: {cut}; {words.cost(at.cost, figure.metric)}; {words.percent(at.accuracy, 2)} predicted"
        marks.append(Mark(x=scale * at.fraction, y=100 * at.accuracy, ink=ink, shape=shape, says=says, name=name))
    if figure.measured:
        fraction, accuracy = figure.measured
        ends = figure.measured_interval
        interval = (100 * ends[0], 100 * ends[1]) if ends else None
        says = f"{name}, delivered: {words.percent(accuracy, 2)} measured"
        marks.append(Mark(x=scale * fraction, y=100 * accuracy, ink=ink, shape=shape, says=says, interval=interval, is_open=True))
    return marks


def differences(runs: Sequence[Run]) -> list[str]:
    """Say what makes the runs hard to compare, one sentence each: other data, other base models, other devices."""
    said = []
    if _differ([_data(run.records) for run in runs]):
        each = "; ".join(f"{run.name} has {run.records.config.get('data', {}).get('source', 'data that are not known')}" for run in runs)
        said.append(f"These runs do not have the same images: {each}. So their accuracies cannot be compared with each other.")
    if _differ([_base(run.records) for run in runs]):
        each = "; ".join(f"{run.name} starts from {_base_text(run.records)}" for run in runs)
        said.append(f"These runs do not start from the same base model: {each}.")
    devices = [run.records.verification.device if run.records.verification else None for run in runs]
    if _differ(devices):
        each = "; ".join(f"{run.name} on {device}" for run, device in zip(runs, devices, strict=True) if device)
        said.append(f"Latencies were measured on different devices: {each}.")
    return said


def _differ(found: Sequence[object]) -> bool:
    return len({item for item in found if item is not None}) > 1


def _data(records: Records) -> object:
    """What tells one set of images from another, as far as the run has recorded it."""
    source = records.config.get("data", {}).get("source")
    return records.trials[0].spec.data_digest if records.trials else source


def _base(records: Records) -> object:
    name = records.config.get("model", {}).get("name")
    return records.trials[0].spec.base_digest if records.trials else name


def _base_text(records: Records) -> str:
    name, accuracy = records.config.get("model", {}).get("name", "a model that is not named"), records.base.get("val_accuracy")
    return f"{name} (val accuracy {words.percent(accuracy)})" if accuracy is not None else str(name)


Cell = tuple[str, str]
"""An amount and, in small print, how sure it is."""


def comparison_rows(runs: Sequence[Run]) -> list[tuple[str, list[Cell]]]:
    """Return the rows of the table: a name, and one cell for each run; a dash where a run has not come so far."""
    columns = [_column(run.records) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, ("–", "")) for column in columns]) for name in names]


def _column(records: Records) -> dict[str, Cell]:
    config = records.config
    column: dict[str, Cell] = {
        "model": (str(config.get("model", {}).get("name", "–")), ""),
        "data": (str(config.get("data", {}).get("source", "–")), ""),
        "budget": (", ".join(map(str, config.get("budget", ()))) or "–", ""),
        "seed": (str(config.get("seed", "–")), ""),
    }
    if kept := words.kept_text(records):
        column["kept"] = (kept, "")
    for row in comparison(records) or ():
        amount = words.quantity(row.compressed, row.kind)
        base = f"base {words.quantity(row.base, row.kind)}, {words.change(row)}"
        sure = words.interval(row.compressed_interval) if row.kind == "accuracy" else ""
        column[row.name] = (amount, "; ".join(filter(None, (sure, base))))
    if records.fit_report:
        column["error of the predictor"] = (words.points(records.fit_report.leave_one_out_mae), "each trial from all the others")
    if (ratio := records.collection.get("cost_ratio")) is not None:
        column["effort of the trials"] = (f"{ratio:.2f}", "of the base model's training")
    if records.seconds:
        column["time in all"] = (words.duration(sum(records.seconds.values())), "")
    return column
