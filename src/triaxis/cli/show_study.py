"""Studies as tables on the terminal, and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from triaxis.cli.frame import out
from triaxis.study.rank import RankStudy
from triaxis.study.table1 import FAMILY_NAMES, FamilyStudy
from triaxis.study.tables import EQUATIONS, Analysis, CubeCheck


def table1(studies: Sequence[FamilyStudy]) -> None:
    """Print the six sub-tables, and eq. 6 from two reference points."""
    for study in studies:
        out.print(f"\n[bold]{FAMILY_NAMES[study.family]} on CIFAR-10[/]")
        for found in study.tables:
            _print_analysis(found)
        for label, check in (("the paper's base model", study.from_base), ("the largest network", study.from_largest)):
            _print_cube(label, check)


def rank(study: RankStudy) -> None:
    """Print the points that cut several axes, and the verdict."""
    for found in study.tables:
        _print_analysis(found)
    if study.test is not None:
        _print_test(study)
    out.print(escape(study.verdict))


def _print_analysis(found: Analysis) -> None:
    table = found.table
    base = table.rows[table.reference[0]]
    shown = Table(
        f"{table.row_axis} \\ {table.column_axis}",
        *(f"{column:.2f}" for column in table.columns),
        f"ratio to {table.row_axis} {base:.2f}",
        "spread",
        title=f"({table.name}) {table.fixed_axis} = {table.fixed:.2f}, accuracy in %",
        title_justify="left",
    )
    for n, row in enumerate(table.rows):
        cells = [f"{100 * accuracy:.2f}" for accuracy in table.accuracies[n]]
        shown.add_row(f"{row:.2f}", *cells, f"{found.ratios[n].mean():.4f}", f"{found.spreads[n]:.4f}")
    out.print(shown)
    errors = 100 * abs(found.errors)
    out.print(
        f"rank 1 explains {100 * found.nearest.share_of_variation:.2f} % of the variation "
        f"({100 * found.nearest.share:.4f} % of the squares); "
        f"{EQUATIONS[table.fixed_axis]} is off by {errors.mean():.2f} points on average, {errors.max():.2f} at most"
    )


def _print_cube(label: str, check: CubeCheck) -> None:
    errors = 100 * abs(check.errors)
    out.print(
        f"eq. 6 from slices through {label} ({check.reference}): {len(errors)} values, off by {errors.mean():.2f} points on average, "
        f"{errors.max():.2f} at most, mean {100 * check.errors.mean():+.2f}"
    )


def _print_test(study: RankStudy) -> None:
    test = study.test
    assert test is not None
    shown = Table("point", "measured", "product of the axes", "difference", "90 %")
    for n, deviation, half in zip(test.points, test.deviations, test.half_widths, strict=True):
        accuracy = study.points[n].accuracy
        cells = (f"{100 * accuracy:.2f} %", f"{100 * (accuracy - deviation):.2f} %", f"{100 * deviation:+.2f}", f"+-{100 * half:.2f}")
        shown.add_row(str(study.points[n].ratios), *cells)
    out.print(shown)


def _analysis_plain(found: Analysis) -> dict[str, Any]:
    table = found.table
    return {
        "subtable": table.name,
        "fixed": {table.fixed_axis: table.fixed},
        "rows": {"axis": table.row_axis, "ratios": list(table.rows)},
        "columns": {"axis": table.column_axis, "ratios": list(table.columns)},
        "accuracies": table.accuracies.tolist(),
        "ratios": found.ratios.tolist(),
        "spreads": found.spreads.tolist(),
        "rank_one_share": found.nearest.share,
        "rank_one_share_of_variation": found.nearest.share_of_variation,
        "equation": EQUATIONS[table.fixed_axis],
        "predicted": found.predicted.tolist(),
        "mae": float(abs(found.errors).mean()),
    }


def _cube_plain(check: CubeCheck) -> dict[str, Any]:
    return {
        "reference": check.reference.to_json(),
        "num_values": len(check.errors),
        "mae": float(abs(check.errors).mean()),
        "largest_error": float(abs(check.errors).max()),
        "bias": float(check.errors.mean()),
    }


def family_plain(study: FamilyStudy) -> dict[str, Any]:
    """Return one family's analysis for another program."""
    return {
        "family": study.family,
        "tables": [_analysis_plain(found) for found in study.tables],
        "eq6_from_base": _cube_plain(study.from_base),
        "eq6_from_largest": _cube_plain(study.from_largest),
    }


def rank_plain(study: RankStudy) -> dict[str, Any]:
    """Return the verdict and its numbers for another program."""
    test = study.test
    plain = None
    if test is not None:
        plain = {
            "mean": test.mean,
            "interval": list(test.interval),
            "holds": test.holds,
            "points": [study.points[n].ratios.to_json() for n in test.points],
            "deviations": test.deviations.tolist(),
        }
    return {"verdict": study.verdict, "test": plain, "tables": [_analysis_plain(found) for found in study.tables]}
