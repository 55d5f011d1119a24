"""The result of a grid in words, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from triaxis.study.grid_report import GridReport, Trainer
from triaxis.study.grid_study import Noise, TableComparison
from triaxis.study.table1 import FAMILY_NAMES
from triaxis.study.tables import EQUATIONS, Analysis, CubeCheck

Row = Sequence[str]


def title(report: GridReport) -> str:
    """Return the question that a grid answers."""
    return f"A grid of {FAMILY_NAMES[report.config.family]}s: does accuracy have rank 1?"


def verdict(report: GridReport) -> str:
    """Say whether rank 1 holds, with the interval on that."""
    return report.study.rank.verdict if report.study else "No network is finished yet, so that there is nothing to say about rank 1."


def what(report: GridReport) -> str:
    """Say what was trained, and what depth 1, width 1 and resolution 1 mean here."""
    config, environment = report.config, report.environment
    layers, width, side_px = config.largest
    networks = f"{len(report.finished)} networks were trained from scratch for {config.recipe.epochs} epochs"
    failures = f", {len(report.failed)} failed" if report.failed else ""
    source = config.data.source.split(":")[0]
    images = f"on {environment['num_train']} images of {source} and scored on {environment['num_test']} test images"
    ones = f"keep ratio 1 is {FAMILY_NAMES[config.family]}-{layers}, width {width:g} and {side_px} px"
    return f"{networks} {images}{failures}; {ones}."


def cubes(report: GridReport) -> list[tuple[str, CubeCheck]]:
    """Return eq. 6 from the grid's reference network and from its largest, where it can be checked; once if they are one."""
    if report.study is None:
        return []
    family = report.study.family
    both = [("the reference network", family.from_base), ("the largest network", family.from_largest)]
    return [pair for pair in (both if family.from_base.reference != family.from_largest.reference else both[1:]) if len(pair[1].errors)]


def cube_text(label: str, check: CubeCheck) -> str:
    """Say how well eq. 6 predicts the networks that differ from a reference on two axes or more."""
    errors = 100 * check.errors
    return (
        f"Eq. 6 from the three slices through {label} ({check.reference}) predicts the {len(errors)} other accuracies with a mean absolute "
        f"error of {np.abs(errors).mean():.2f} points, at most {np.abs(errors).max():.2f}; measured minus predicted is "
        f"{errors.mean():+.2f} on average."
    )


def analysis_text(found: Analysis) -> str:
    """Say how much of a sub-table rank 1 explains, and how far eq. 3, 4 or 5 is off."""
    errors = 100 * np.abs(found.errors)
    residual = 100 * float(np.sqrt(np.mean(found.nearest.residual**2)))
    return (
        f"A rank-1 table explains {100 * found.nearest.share_of_variation:.2f} % of the variation and leaves {residual:.2f} points (root "
        f"mean square); {EQUATIONS[found.table.fixed_axis]} is off by {errors.mean():.2f} points on average, {errors.max():.2f} at most."
    )


def noise_text(noise: Noise) -> str:
    """Say what differences mean nothing."""
    seeds = f"; networks that differ by the seed alone differ by {100 * noise.seeds:.2f}" if noise.seeds is not None else ""
    return f"The finite test split alone moves an accuracy by {100 * noise.test_split:.2f} points (one standard deviation){seeds}."


def comparison_text(found: TableComparison) -> str:
    """Say how the grid stands beside the paper's printed table."""
    said = (
        f"{len(found.cells)} of the networks are in the paper's Table 1 too, which was measured on CIFAR-10: measured minus printed is "
        f"{100 * found.mean_difference:+.2f} points on average, with a standard deviation of {100 * found.spread:.2f} between networks."
    )
    for plane in found.residuals:
        said += (
            f" On the {plane.num_rows} x {plane.num_columns} common cells of sub-table ({plane.name}), rank 1 leaves "
            f"{100 * plane.measured:.2f} points here and {100 * plane.printed:.2f} in the printed table (root mean square)."
        )
    return said


def trainer_text(found: Trainer, environment: dict[str, object]) -> str:
    """Say how fast training was, and what share of the device it used."""
    side_by_side = f"{found.workers} at a time" if found.workers > 1 else "one at a time"
    return (
        f"Trained {side_by_side} on {environment['device']} in {_duration(found.seconds)}: {found.images_per_second:,.0f} images per "
        f"second over the whole grid, {found.median_per_network:,.0f} in the median network; {found.flops_per_second / 1e12:.3g} TFLOP/s, "
        f"which is {100 * found.share_of_peak:.1f} % of the {found.peak_flops / 1e12:.3g} TFLOP/s that a large matrix product does there."
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def missing_text(report: GridReport) -> str:
    """Say which sub-tables have holes."""
    wanted = "abc" if "cube" in report.config.cells else report.config.cells
    whole = {found.table.name for found in report.study.family.tables} if report.study else set()
    missing = [f"({name})" for name in wanted if name not in whole]
    if not missing:
        return ""
    return f"Left out (a missing cell, or one level): sub-table {', '.join(missing)}. The same command trains what failed again."


def failures(report: GridReport) -> list[Row]:
    """Return a name and the last line of its error for each network that failed."""
    return [(str(result.spec), (result.error or "unknown").strip().splitlines()[-1]) for result in report.failed]


def markdown(report: GridReport) -> str:
    """Return the whole result as Markdown."""
    return "\n\n".join(_parts(report)) + "\n"


def _parts(report: GridReport) -> Iterator[str]:
    yield f"# {title(report)}"
    yield verdict(report)
    yield what(report)
    if report.study is not None:
        for found in report.study.family.tables:
            yield from _sub_table(found)
        checks = [cube_text(*pair) for pair in cubes(report)]
        yield from ["## Eq. 6", *checks] if checks else []
        yield noise_text(report.study.noise)
    if missing := missing_text(report):
        yield missing
    if report.study is not None and report.study.printed is not None:
        yield "## Beside the paper's Table 1"
        yield comparison_text(report.study.printed)
        yield _table(("layers", "width", "side", "measured", "printed", "difference"), _cells(report.study.printed))
    if report.failed:
        yield "## Networks that failed"
        yield _table(("network", "error"), failures(report))
    yield "## How it was trained"
    if report.trainer is not None:
        yield trainer_text(report.trainer, report.environment)
    yield _environment(report)
    yield f"```yaml\n{report.config.to_yaml()}```"


def _sub_table(found: Analysis) -> Iterator[str]:
    table = found.table
    base = table.rows[table.reference[0]]
    yield f"## ({table.name}) {table.fixed_axis} {table.fixed:.2f}"
    head = [f"{table.row_axis} \\ {table.column_axis}", *(f"{column:.2f}" for column in table.columns)]
    body = [
        (f"{row:.2f}", *(f"{100 * a:.2f}" for a in accuracies), f"{ratios.mean():.4f}", f"{spread:.4f}")
        for row, accuracies, ratios, spread in zip(table.rows, table.accuracies, found.ratios, found.spreads, strict=True)
    ]
    yield _table([*head, f"ratio to {base:.2f}", "spread of ratio"], body)
    yield analysis_text(found)


def _cells(found: TableComparison) -> list[Row]:
    return [
        (
            str(cell.place[0]),
            f"{cell.place[1]:g}",
            f"{cell.place[2]} px",
            f"{100 * cell.measured:.2f}",
            f"{100 * cell.printed:.2f}",
            f"{100 * cell.difference:+.2f}",
        )
        for cell in found.cells
    ]


def _environment(report: GridReport) -> str:
    found = report.environment
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    mode = found["mode"]
    trained = f"{found['device']}, {found['threads']} threads, {mode['precision']} {mode['memory_format']}"
    return f"{trained}; {versions}; images {found['data_digest']}."


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
