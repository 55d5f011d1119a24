"""A trainer that trains nothing: accuracy and cost are known formulas, so that every decision can be checked.

The accuracy is exactly separable, a product of three concave quadratics, each rising on (0, 1]::

    F(d, w, r) = top * f_d(d) * f_w(w) * f_r(r),    f_a(x) = 1 - fall_a (1 - x)^2

and the cost is the paper's C = macs * d * w^2 * r^2, at the ratios that the integers achieve.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from triaxis.values import AXES, Axis, ChannelCut, CostTable, DoneTrial, KeepRatios, PrunePlan, Recipe, TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeTrainer:
    """Gives each trial the accuracy of a known surface; ``trainer(spec)`` is the work that an executor does.

    `fall` holds (depth, width, resolution) losses of accuracy, relative, at a keep ratio of 0. `noise` is the standard
    deviation of an accuracy, drawn from the trial's id, so that a trial always gives the same number. Trials whose id is in
    `broken` fail.
    """

    top: float = 0.9
    fall: tuple[float, float, float] = (0.5, 0.35, 0.6)
    num_blocks: int = 9
    num_channels: int = 64
    side_px: int = 32
    macs: float = 4e7
    noise: float = 0.0
    broken: frozenset[str] = field(default_factory=frozenset)

    def accuracy(self, ratios: KeepRatios) -> float:
        """Return F, without noise."""
        product = self.top
        for fall, ratio in zip(self.fall, ratios.as_tuple(), strict=True):
            product *= 1 - fall * (1 - ratio) ** 2
        return product

    def cost(self, ratios: KeepRatios) -> float:
        """Return C, in MACs."""
        return self.macs * ratios.depth * ratios.width**2 * ratios.resolution**2

    def plan(self, target: KeepRatios) -> PrunePlan:
        """Return the nearest integers to the target."""
        removed = self.num_blocks - max(1, round(target.depth * self.num_blocks))
        num_kept = max(1, round(target.width * self.num_channels))
        cut = ChannelCut(group="all", num_channels=self.num_channels, kept=tuple(range(num_kept)))
        return PrunePlan(
            num_blocks=self.num_blocks,
            removed_blocks=tuple(f"block{i}" for i in range(removed)),
            channels=(cut,) if num_kept < self.num_channels else (),
            num_channels=self.num_channels,
            base_side_px=self.side_px,
            side_px=max(1, round(target.resolution * self.side_px)),
        )

    def __call__(self, spec: TrialSpec) -> DoneTrial:
        """Do one trial, at once."""
        if spec.trial_id in self.broken:
            raise RuntimeError(f"trial {spec.trial_id} breaks on purpose")
        plan = self.plan(spec.target)
        measured = self.accuracy(plan.achieved) + random.Random(spec.trial_id).gauss(0, self.noise)
        accuracy, macs = min(1.0, max(0.0, measured)), self.cost(plan.achieved)
        return DoneTrial(spec=spec, plan=plan, val_accuracy=accuracy, val_loss=1 - accuracy, macs=round(macs), params=1000, train_macs=macs)

    def cost_table(self, num_widths: int = 13, num_sides: int = 17) -> CostTable:
        """Return the cost of every cut on a lattice that reaches down to about a quarter on each axis."""
        blocks = tuple(range(self.num_blocks, max(0, self.num_blocks // 4 - 1), -1))
        channels = _falling(self.num_channels, num_widths)
        sides = _falling(self.side_px, num_sides)
        depth, width, resolution = (tuple(level / levels[0] for level in levels) for levels in (blocks, channels, sides))
        costs = tuple(tuple(tuple(self.cost(KeepRatios(depth=d, width=w, resolution=r)) for r in resolution) for w in width) for d in depth)
        return CostTable(
            blocks=blocks, widths=width, sides_px=sides, depth=depth, width=width, resolution=resolution, costs={"macs": costs}
        )

    def best(self, limit: float) -> KeepRatios:
        """Return the most accurate cut of `cost_table` that costs `limit` MACs or less, by trying all."""
        table = self.cost_table()
        lattice = (KeepRatios(depth=d, width=w, resolution=r) for d, w, r in itertools.product(table.depth, table.width, table.resolution))
        return max((ratios for ratios in lattice if self.cost(ratios) <= limit), key=self.accuracy)


def _falling(largest: int, num: int) -> tuple[int, ...]:
    """Return at most `num` whole levels from `largest` down to a quarter of it, evenly."""
    levels = {round(largest * (1 - 0.75 * i / (num - 1))) for i in range(num)}
    return tuple(sorted(levels, reverse=True))


def chain_specs(
    ratios: Sequence[float] = (0.85, 0.7, 0.55, 0.4),
    recipe: Recipe | None = None,
    seed: int = 0,
    digests: tuple[str, str] = ("base", "data"),
) -> list[TrialSpec]:
    """Return the base trial and one chain per axis, each trial after its parent."""
    base_digest, data_digest = digests

    def spec(target: KeepRatios, axis: Literal["base"] | Axis, parent: str | None) -> TrialSpec:
        return TrialSpec(
            target=target,
            axis=axis,
            parent=parent,
            recipe=recipe or Recipe(epochs=1),
            seed=seed,
            base_digest=base_digest,
            data_digest=data_digest,
        )

    specs = [spec(KeepRatios(), "base", None)]
    for axis in AXES:
        parent = specs[0]
        for ratio in ratios:
            parent = spec(KeepRatios(**{axis: ratio}), axis, parent.trial_id)
            specs.append(parent)
    return specs
