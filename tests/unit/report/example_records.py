"""A deterministic run with round numbers: a ResNet-20 on 32 px images whose true accuracy surface is known."""

from __future__ import annotations

import math

from triaxis.maths.fit import fit
from triaxis.maths.solve import solve
from triaxis.report.records import Records
from triaxis.values import (
    Budget,
    ChannelCut,
    CostTable,
    DoneTrial,
    KeepRatios,
    Measured,
    Point,
    PrunePlan,
    Recipe,
    TrialSpec,
    Verification,
)

BLOCKS, WIDTHS, SIDES = (9, 8, 7, 6, 5, 4), (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25), tuple(range(32, 11, -1))
BASE_MACS = 40_550_000
BASE_ACCURACY = 0.912
STAGES = [f"stages.{stage}.{place}" for stage in range(3) for place in range(3)]


def true_accuracy(ratios: KeepRatios) -> float:
    """Accuracy of the invented network: depth is the cheap axis, resolution the dear one."""
    d, w, r = ratios.as_tuple()
    return BASE_ACCURACY * (1 - 0.11 * (1 - d) ** 2) * (1 - 0.13 * (1 - w) ** 1.6) * (1 - 0.34 * (1 - r) ** 1.7)


def true_cost(ratios: KeepRatios) -> float:
    """MACs of the invented network; a little remains whatever is cut."""
    d, w, r = ratios.as_tuple()
    return BASE_MACS * (0.03 + 0.97 * (0.08 + 0.92 * d) * (0.1 * w + 0.9 * w**2)) * r**2


def table() -> CostTable:
    depth, resolution = tuple(b / 9 for b in BLOCKS), tuple(s / 32 for s in SIDES)
    cube = tuple(tuple(tuple(true_cost(KeepRatios(depth=d, width=w, resolution=r)) for r in resolution) for w in WIDTHS) for d in depth)
    slower = tuple(tuple(tuple(0.4 + 1.6 * c / BASE_MACS for c in row) for row in plane) for plane in cube)
    costs = {"macs": cube, "latency_ms": slower}
    return CostTable(blocks=BLOCKS, widths=WIDTHS, sides_px=SIDES, depth=depth, width=WIDTHS, resolution=resolution, costs=costs)


def plan(num_removed: int = 0, width: float = 1.0, side_px: int = 32) -> PrunePlan:
    removed = tuple(STAGES[i] for i in (1, 2, 4, 5, 8)[:num_removed])
    groups = (("stem.conv", 16), *((f"{name}.conv1", 16 * 2 ** int(name[7])) for name in STAGES))
    cuts = tuple(ChannelCut(group=name, num_channels=num, kept=tuple(range(round(num * width)))) for name, num in groups if width < 1)
    return PrunePlan(num_blocks=9, removed_blocks=removed, channels=cuts, num_channels=352, base_side_px=32, side_px=side_px)


def trial(axis: str, target: KeepRatios, made: PrunePlan, noise: float, parent: str | None) -> DoneTrial:
    digests = {"base_digest": "b", "data_digest": "d"}
    spec = TrialSpec(target=target, axis=axis, parent=parent, recipe=Recipe(epochs=2), seed=0, **digests)  # type: ignore[arg-type]
    accuracy, macs = true_accuracy(target) + noise, int(true_cost(target))
    effort = {"val_loss": 1 - accuracy, "macs": macs, "params": 270_000, "train_macs": 2e4 * macs, "seconds": 6.5}
    return DoneTrial(spec=spec, plan=made, val_accuracy=accuracy, **effort)  # type: ignore[arg-type]


def chains() -> tuple[DoneTrial, ...]:
    """A base point and three chains, each trial naming its parent; noise of about 0.15 points that repeats exactly."""
    found = [trial("base", KeepRatios(), plan(), 0.0, None)]
    chain = [("depth", KeepRatios(depth=(9 - n) / 9), plan(num_removed=n)) for n in range(1, 6)]
    chain += [("width", KeepRatios(width=w), plan(width=w)) for w in (0.75, 0.5, 0.375, 0.25)]
    chain += [("resolution", KeepRatios(resolution=s / 32), plan(side_px=s)) for s in (28, 24, 20, 16)]
    for number, (axis, target, made) in enumerate(chain):
        found.append(trial(axis, target, made, 0.0015 * math.sin(2.4 * number), found[-1].trial_id))
    return tuple(found)


def measured(accuracy: float, test: float, macs: int, params: int, slower: float) -> Measured:
    latency = {"1": 2.31 * slower**0.8, "64": 41.2 * slower}
    return Measured(
        val_accuracy=accuracy,
        test_accuracy=test,
        test_interval=(test - 0.011, test + 0.010),
        macs=macs,
        params=params,
        latency_ms=latency,
        latency_spread_ms={batch: 0.03 * value for batch, value in latency.items()},
        file_bytes=4 * params,
    )


def example_records(fraction: float = 0.5) -> Records:
    """Return the records of a finished run at a MACs budget of this fraction."""
    trials, costs = chains(), table()
    predictor, report = fit([Point(ratios=t.achieved, accuracy=t.val_accuracy or 0.0) for t in trials], degree=2)
    budget = Budget(metric="macs", limit=fraction * BASE_MACS, fraction=fraction)
    solution = solve(predictor, costs, [budget])
    left = solution.costs["macs"] / BASE_MACS
    final = true_accuracy(solution.ratios) + 0.006
    return Records(
        config={"seed": 0, "model": {"name": "cifar:resnet20"}, "data": {"source": "digits"}, "budget": [f"macs={100 * fraction:g}%"]},
        anatomy={"blocks": [{"name": name, "stage": name[:8]} for name in STAGES], "closed": {}},
        base={"val_accuracy": BASE_ACCURACY},
        trials=trials,
        cost_table=costs,
        predictor=predictor,
        fit_report=report,
        solution=solution,
        plan=plan(num_removed=9 - solution.blocks, width=solution.width, side_px=solution.side_px),
        verification=Verification(
            base=measured(BASE_ACCURACY, 0.908, BASE_MACS, 272_474, 1.0),
            compressed=measured(final, final - 0.004, int(left * BASE_MACS), int(272_474 * left**0.7), left**0.9),
            predicted_accuracy=solution.predicted_accuracy,
            prediction_error=final - solution.predicted_accuracy,
            num_test=4000,
            device="cpu (2 cores)",
            threads=2,
        ),
        seconds={"base": 61.2, "collect": 38.4, "fit": 0.02, "solve": 0.11, "prune": 12.9, "verify": 4.2},
        collection={"cost_ratio": 0.43, "num_val": 5000},
        environment={
            "device": "cpu",
            "mode": {"schema": 1, "precision": "bf16", "channels_last": True},
            "versions": {"torch": "2.15.0", "triaxis": "0.1.0"},
        },
    )
