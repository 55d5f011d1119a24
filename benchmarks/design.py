"""How the regret falls with the number of trials, for five designs: ``python benchmarks/design.py``.

Regret: the best true accuracy within budget minus the true accuracy of the cut that is chosen. Designs, all fitted by the
default predictor: what `triaxis run` collects for any budget (two thirds spread over the axes, a third where accuracy falls most),
what `triaxis collect --trials` adds for one budget (two trials an axis, then `next_trial`), axes only (evenly spread), random
cuts of the lattice, and full grids. Beside them the paper's: four trials an axis and its rank-1 cubic. Truths: Table 1 of each
family as a smooth interpolated surface, and random synthetic ones. Every measurement has noise of 0.3 points.

Writes results/design.json and results/design.md beside this file. Runs in a few minutes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import RBFInterpolator

from triaxis.maths.design import axis_design, next_trial, steepest
from triaxis.maths.fit import fit
from triaxis.maths.lattice import BASE, Lattice, Levels
from triaxis.maths.solve import solve
from triaxis.study.synthetic import KINDS, cnn_cost, measure, random_surface
from triaxis.study.table1 import FAMILIES, FAMILY_NAMES, Family, points_of
from triaxis.values import AccuracyPredictor, Budget, CostTable, KeepRatios, Point

RESULTS = Path(__file__).parent / "results"
NOISE = 0.003
FRACTIONS = (0.5, 0.25, 0.12)
COUNTS = (6, 8, 10, 12, 15, 18)
GRIDS = {7: (2, 2, 2), 11: (2, 2, 3), 17: (2, 3, 3), 26: (3, 3, 3)}
NUM_REPEATS, NUM_SURFACES = 8, 5
Truth = Callable[[np.ndarray], np.ndarray]


class Problem(NamedTuple):
    """A true surface over a lattice, one budget, and the seed of its measurements."""

    truth: Truth
    table: CostTable
    budget: Budget
    seed: int

    def measure(self, levels: list[Levels], first: int = 0) -> list[Point]:
        """Measure cuts of the lattice; `first` tells repeated calls apart."""
        x = np.array([Lattice(self.table).ratios(cut).as_tuple() for cut in levels])
        return measure(self.truth, x, NOISE, 1000 * self.seed + first)

    def regret(self, predictor: AccuracyPredictor) -> float:
        """Return the best true accuracy within budget minus that of the cut which the predictor chooses, in points."""
        x, costs = Lattice(self.table).x, Lattice(self.table).costs("macs")
        chosen = solve(predictor, self.table, [self.budget], with_continuous=False).ratios.as_tuple()
        best = self.truth(x[costs <= self.budget.limit]).max()
        return 100 * float(best - self.truth(np.array([chosen]))[0])


def lattice_of(low: tuple[float, float, float], sizes: tuple[int, int, int] = (7, 9, 9)) -> CostTable:
    """Return evenly spaced levels from 1 to `low`, priced as a network with a stem and a head."""
    d, w, r = (tuple(np.linspace(1, bound, num).tolist()) for bound, num in zip(low, sizes, strict=True))
    costs = tuple(tuple(tuple(cnn_cost(i, j, k) for k in r) for j in w) for i in d)
    blocks, sides = tuple(range(sizes[0], 0, -1)), tuple(range(sizes[2], 0, -1))
    return CostTable(blocks=blocks, widths=w, sides_px=sides, depth=d, width=w, resolution=r, costs={"macs": costs})


def table1_surface(family: Family) -> Truth:
    """Return Table 1 as a smooth surface: thin plates over log ratios through the 61 places, smoothed."""
    places: dict[tuple[float, ...], list[float]] = {}
    for point in points_of(family):
        places.setdefault(point.ratios.as_tuple(), []).append(point.accuracy)
    x = np.log(np.array(list(places)))
    span = -x.min(axis=0)
    surface = RBFInterpolator(x / span, np.array([np.mean(found) for found in places.values()]), smoothing=0.01)
    return lambda ratios: surface(np.log(ratios) / span)


def problems() -> Iterator[tuple[str, Problem]]:
    """Yield every problem with the name of its group."""
    for family, fraction, seed in itertools.product(FAMILIES, FRACTIONS, range(NUM_REPEATS)):
        low = (1 / 9 if family == "resnet" else 0.2, 0.6, 0.5)
        table = lattice_of(low, (9, 9, 9))
        yield f"Table 1, {FAMILY_NAMES[family]}", Problem(table1_surface(family), table, _budget(table, fraction), seed)
    for kind, surface_seed, fraction in itertools.product(KINDS, range(2000, 2000 + NUM_SURFACES), FRACTIONS):
        surface = random_surface(kind, surface_seed)
        table = lattice_of(surface.low)
        yield "synthetic", Problem(surface, table, _budget(table, fraction), surface_seed)


def _budget(table: CostTable, fraction: float) -> Budget:
    cheapest = Lattice(table).costs("macs").min()
    limit = max(fraction * table.base_cost("macs"), 1.2 * float(cheapest))
    return Budget(metric="macs", limit=limit, fraction=limit / table.base_cost("macs"))


def _axes(problem: Problem, num: int) -> list[Levels]:
    table = problem.table
    low = KeepRatios(depth=table.depth[-1], width=table.width[-1], resolution=table.resolution[-1])
    return [BASE, *(levels for _, levels in axis_design(table, num_trials=num, min_ratios=low))]


def sequential(problem: Problem, first: int = 6) -> tuple[dict[int, float], int]:
    """Return the regret at each count for axis trials followed by one trial at a time, and the count at which it would stop."""
    taken = _axes(problem, first)
    points, regrets, stopped = problem.measure(taken), {}, COUNTS[-1]
    for num in range(first, COUNTS[-1] + 1):
        predictor, _ = fit(points)
        regrets[num] = problem.regret(predictor)
        trial = next_trial(predictor, problem.table, [problem.budget], measured=taken)
        if not trial.is_worth_it:
            stopped = min(stopped, num)
        taken = [*taken, trial.levels]
        points += problem.measure([trial.levels], first=num)
    return {num: regrets[num] for num in COUNTS}, stopped


def as_run(problem: Problem) -> dict[int, float]:
    """What `triaxis run` collects: trials spread over the axes, then a third of all where accuracy falls most."""
    found = {}
    for num in (9, 12, 15, 18):
        taken = _axes(problem, num - num // 3)
        points = problem.measure(taken)
        more = [levels for _, levels in steepest(problem.table, dict(zip(taken, (p.accuracy for p in points), strict=True)), num // 3)]
        found[num] = problem.regret(fit([*points, *problem.measure(more, first=num)])[0])
    return found


def axes_only(problem: Problem) -> dict[int, float]:
    """Evenly spread trials on the axes."""
    return {num: problem.regret(fit(problem.measure(_axes(problem, num)))[0]) for num in COUNTS}


def paper(problem: Problem) -> dict[int, float]:
    """The paper's: trials on the axes and a rank-1 cubic."""
    return {num: problem.regret(fit(problem.measure(_axes(problem, num)), kind="polynomial", degree=3)[0]) for num in (12, 15, 18)}


def random_cuts(problem: Problem) -> dict[int, float]:
    """Cuts drawn from the whole lattice, and the base model."""
    rng = np.random.default_rng(problem.seed)
    lattice = Lattice(problem.table)
    drawn = [lattice.levels(row) for row in rng.permutation(len(lattice))[: COUNTS[-1]]]
    return {num: problem.regret(fit(problem.measure([BASE, *drawn[:num]]))[0]) for num in COUNTS}


def grids(problem: Problem) -> dict[int, float]:
    """Full factorial grids over the lattice's range; the base model is a corner."""
    found = {}
    for num, shape in GRIDS.items():
        lattice = Lattice(problem.table)
        levels = [np.linspace(0, size - 1, n).round().astype(int).tolist() for size, n in zip(lattice.shape, shape, strict=True)]
        found[num] = problem.regret(fit(problem.measure(list(lattice.product(levels))))[0])
    return found


def run() -> dict[str, dict[str, dict[int, list[float]]]]:
    """Return regrets by group, design and number of trials; "stops at" holds where the stop rule ends."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for group, problem in problems():
        regrets, stopped = sequential(problem)
        designs = {
            "as `triaxis run`: axes, and where accuracy falls most": as_run(problem),
            "as `triaxis collect --trials`: 6 on the axes, then one at a time": regrets,
            "axes only": axes_only(problem),
            "the paper's: axes only, rank-1 cubic": paper(problem),
            "random": random_cuts(problem),
            "grid": grids(problem),
        }
        for design, by_num in designs.items():
            for num, regret in by_num.items():
                found.setdefault(group, {}).setdefault(design, {}).setdefault(num, []).append(regret)
        found[group].setdefault("stops at", {}).setdefault(0, []).append(float(stopped))
        found[group].setdefault("regret where it stops", {}).setdefault(0, []).append(sequential_at(regrets, stopped))
    return found


def sequential_at(regrets: dict[int, float], stopped: int) -> float:
    """Return the regret at the first listed count that is not before the stop."""
    return regrets[min(num for num in regrets if num >= stopped)]


def table(found: dict[str, Any]) -> str:
    """Return mean and 90th percentile of the regret as Markdown."""
    text = ["# Regret against the number of trials", "", "Mean regret in points of accuracy, in brackets its 90th percentile."]
    text += ["Trials beside the base model; noise 0.3 points each; budgets of 50, 25 and 12 % of the MACs.", ""]
    for group, designs in found.items():
        counts = sorted({num for design in designs.values() for num in design} - {0})
        size = len(designs["stops at"][0])
        text += [f"## {group} ({size} problems)", "", "| design | " + " | ".join(map(str, counts)) + " |", "|---" * (len(counts) + 1) + "|"]
        for design, by_num in designs.items():
            if 0 not in by_num:
                cells = [f"{np.mean(by_num[n]):.2f} ({np.quantile(by_num[n], 0.9):.2f})" if n in by_num else "" for n in counts]
                text += [f"| {design} | " + " | ".join(cells) + " |"]
        stops, regrets = designs["stops at"][0], designs["regret where it stops"][0]
        text += ["", f"The stop rule ends after {np.mean(stops):.1f} trials on average ({min(stops):.0f} to {max(stops):.0f}), "]
        text[-1] += f"with a mean regret of {np.mean(regrets):.2f} points (90th percentile {np.quantile(regrets, 0.9):.2f})."
        text += [""]
    return "\n".join(text)


def main() -> None:
    """Run and write both files."""
    found = run()
    RESULTS.mkdir(exist_ok=True)
    means = {
        group: {design: {num: round(float(np.mean(r)), 4) for num, r in by_num.items()} for design, by_num in designs.items()}
        for group, designs in found.items()
    }
    (RESULTS / "design.json").write_text(json.dumps(means, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "design.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
