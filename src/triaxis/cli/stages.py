"""The commands on a run: the whole job, its stages, and the questions that need no training.

`fit`, `solve`, `frontier` and `status` import no torch, so that they answer at once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from triaxis.cli import show
from triaxis.cli.frame import StageProgress, err, out, print_json
from triaxis.cli.models import ProtectOption, PruneOnlyOption
from triaxis.values.score import score_of

if TYPE_CHECKING:
    from triaxis.config import Config

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", "-b", metavar="METRIC=AMOUNT", help="macs=30%, macs=12M, params=50%, latency=3ms or memory=64MB; may be repeated."
    ),
]
EffortOption = Annotated[
    float | None, typer.Option("--effort", min=0.001, help="All training after the base model's, in shares of base training.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for another program.")]

WATCH_S = 2.0


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False)],
    out_dir: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run directory; runs/NAME of the config file.")] = None,
    effort: EffortOption = None,
    hours: Annotated[float | None, typer.Option("--hours", min=0.0, help="The same by time: what fits into so many hours here.")] = None,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="serial|ray", help="How trials are done: see docs/cluster.md.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
    ] = None,
    protect: ProtectOption = None,
    prune_only: PruneOnlyOption = None,
) -> None:
    """Do it all: train or load the base model, collect, fit, solve, prune, report.

    Killed or stopped, the same command goes on where it was.

    Examples: `triaxis run examples/digits.yaml --out runs/demo`, `triaxis run config.yaml --executor ray --address auto`
    """
    from triaxis.config import idle_settings, load_config

    place = out_dir or Path("runs") / config.stem
    chosen = {"protect": tuple(protect or ()), "prune_only": tuple(prune_only or ())}
    held = load_config(config).model_copy(update={key: names for key, names in chosen.items() if names})
    loaded = _with_effort(_with_executor(held, executor, address), place, effort, hours)
    for sentence in idle_settings(loaded):
        err.print(f"[yellow]warning[/]: {sentence}")
    from triaxis.stages.pipeline import run as run_pipeline

    with StageProgress() as progress:
        run_pipeline(loaded, place, progress=progress)
        _write_report(place, progress)
    _show_result(place)


def _with_executor(config: Config, executor: str | None, address: str | None) -> Config:
    """Return the configuration with the executor that was asked for; an address alone means ray.

    Raises:
        ConfigError: There is no such executor, or the address has the wrong form.
    """
    if executor is None and address is None:
        return config
    if executor == "serial" and address is not None:
        raise typer.BadParameter("--address goes with --executor ray: leave one of them out.")
    from triaxis.config import config_from_plain

    plain = config.to_plain()
    plain["collect"]["executor"] = executor or "ray"
    if address is not None:
        plain["collect"]["cluster"]["address"] = address
    return config_from_plain(plain, source="The command line")


def _with_effort(config: Config, place: Path, effort: float | None, hours: float | None) -> Config:
    """Return the configuration with the effort that was asked for; time already turned into effort stays as it was."""
    if effort is not None and hours is not None:
        raise typer.BadParameter("--effort and --hours say the same thing in two ways: give one of them.")
    if hours is not None:
        from triaxis.stages.plan import forecast_run
        from triaxis.store.directory import RunDirectory

        begun = RunDirectory(place)
        effort = begun.config().effort if begun.config_file.exists() else round(forecast_run(config).effort_in(hours), 3)
        err.print(f"effort: {effort} of base training")
    return config if effort is None else config.model_copy(update={"effort": effort})


def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False)],
    effort: EffortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a run would train, how much and about how long; nothing is trained and nothing written.

    Example: `triaxis plan examples/digits.yaml --effort 0.5`
    """
    from triaxis.config import load_config

    loaded = load_config(config)
    from triaxis.stages.plan import forecast_run

    found = forecast_run(loaded if effort is None else loaded.model_copy(update={"effort": effort}))
    print_json(found.to_plain()) if as_json else show.forecast(found)


def collect(
    run_dir: RunArgument,
    trials: Annotated[int, typer.Option("--trials", min=0, help="Add up to this many where they tell most for the run's budgets.")] = 0,
) -> None:
    """Measure the trials: cut, fine-tune briefly, evaluate on val.

    Examples: `triaxis collect runs/demo`, `triaxis collect runs/demo --trials 3`
    """
    from triaxis.stages.pipeline import continue_run

    with StageProgress() as progress:
        continue_run(run_dir, "collect", num_more=trials, progress=progress)


def fit(
    source: Annotated[Path, typer.Argument(metavar="RUN|POINTS.csv", help="Run directory, or a table of points.", show_default=False)],
    predict: Annotated[Path | None, typer.Option("--predict", metavar="OTHER.csv", help="Predict these rows too (points only).")] = None,
    budget: BudgetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the accuracy predictor to a run's trials, or to a CSV file of depth, width, resolution, accuracy.

    Examples: `triaxis fit runs/demo`, `triaxis fit points.csv --predict other.csv`
    """
    if source.suffix == ".csv":
        from triaxis.cli.fit_points import fit_points

        fit_points(source, predict=predict, budget=budget, as_json=as_json)
        return
    if predict or budget:
        raise typer.BadParameter("--predict and --budget go with a CSV file; for a run, see `triaxis solve`.")
    from triaxis.stages.fit import fit_run
    from triaxis.store.directory import RunDirectory

    place = RunDirectory(source)
    config = place.config()
    with place.open() as store:
        predictor, report = fit_run(store, config)
    if as_json:
        print_json({"predictor": predictor.to_json(), "fit_report": report.to_json()})
    else:
        show.fit_report(report, score_of(config.task))


def solve(run_dir: RunArgument, budget: BudgetOption = None, as_json: JsonOption = False) -> None:
    """Answer a budget from the trials already there; several budgets hold together.

    Example: `triaxis solve runs/demo --budget macs=30%`
    """
    from triaxis.stages.solve import solve_run
    from triaxis.store.directory import RunDirectory
    from triaxis.values import parse_budgets

    place = RunDirectory(run_dir)
    config = place.config()
    specs = parse_budgets(budget, config.metric_keys) if budget else config.budgets
    with place.read() as store:
        solution = solve_run(store, specs)
    print_json(solution.to_json()) if as_json else show.solution(solution, score_of(config.task))


def frontier(
    run_dir: RunArgument,
    metric: Annotated[str, typer.Option("--metric", help="macs, params, latency or memory.")] = "macs",
    num: Annotated[int, typer.Option("--num", min=2, max=1000, help="Budgets to answer.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Print and plot the best accuracy at every budget.

    Example: `triaxis frontier runs/demo --metric macs`
    """
    from triaxis.stages.solve import frontier_run
    from triaxis.store.directory import RunDirectory
    from triaxis.values import BudgetSpec

    chosen, place = BudgetSpec.parse(f"{metric}=100%").metric, RunDirectory(run_dir)
    with place.read() as store:
        solutions = frontier_run(store, chosen, num)
    if as_json:
        print_json([solution.to_json() for solution in solutions])
    else:
        show.frontier(solutions, chosen, score_of(place.config().task))


def prune(run_dir: RunArgument, budget: BudgetOption = None) -> None:
    """Cut the model at the optimum, fine-tune it, verify it on test, export it.

    Example: `triaxis prune runs/demo --budget macs=30%`
    """
    from triaxis.stages.pipeline import continue_run
    from triaxis.store.directory import RunDirectory
    from triaxis.values import parse_budgets

    specs = parse_budgets(budget, RunDirectory(run_dir).config().metric_keys) if budget else None

    with StageProgress() as progress:
        continue_run(run_dir, "prune", budgets=specs, progress=progress)
        _write_report(run_dir, progress)
    _show_result(run_dir)


def _show_result(run_dir: Path) -> None:
    """Print the summary; a budget that the finished model misses is the command's last word and its exit code.

    Raises:
        BudgetMissedError: It does.
    """
    from triaxis.errors import BudgetMissedError
    from triaxis.values import BudgetCheck

    summary = show.summary(run_dir)
    missed = [check for check in (BudgetCheck.from_json(plain) for plain in summary.get("checks", ())) if not check.is_met]
    if missed:
        raise BudgetMissedError("; ".join(check.missed_sentence() for check in missed))


def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One run directory, or several to compare.", show_default=False)],
    page: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where the comparison is written; report-compare.html.")
    ] = None,
) -> None:
    """Write the page that shows what was done, or one page that compares several runs; half-finished runs have pages too.

    Examples: `triaxis report runs/demo`, `triaxis report runs/a runs/b --out compare.html`
    """
    if len(run_dirs) == 1 and page is not None:
        raise typer.BadParameter("--out goes with several runs: the page of one run is always RUN/report.html.")
    with StageProgress() as progress:
        path = _write_report(run_dirs[0], progress) if len(run_dirs) == 1 else _write_comparison(run_dirs, page, progress)
    out.print(f"report: {escape(str(path))}", soft_wrap=True)


def _write_comparison(run_dirs: list[Path], page: Path | None, progress: StageProgress) -> Path:
    from triaxis.report.compare import compare_runs

    with progress.stage("report") as advance:
        advance(0.0, "drawing")
        return compare_runs(run_dirs, page or Path("report-compare.html"))


def _write_report(run_dir: Path, progress: StageProgress) -> Path:
    from triaxis.report import report_run

    with progress.stage("report") as advance:
        advance(0.0, "drawing")
        return report_run(run_dir)


def status(
    run_dir: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Say it again every 2 seconds until the run ends or stops.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say how far a run is; works while it is running.

    Examples: `triaxis status runs/demo`, `triaxis status runs/demo --watch`
    """
    from triaxis.cli.progress_of import progress_of

    while True:
        found = progress_of(run_dir)
        if watch and out.is_terminal and not as_json:
            out.clear()
        print_json(found) if as_json else show.status(found)
        if not watch or not found["running"]:
            return
        time.sleep(WATCH_S)
