"""Which block to remove next: the one whose removal raises the loss least, measured after batch-norm calibration."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from triaxis.process.walltime import part
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import PrunePlan

GREEDY_CANDIDATES = 60
"""Losses that a choice may measure; beyond that, several blocks are chosen from one ranking."""

Losses = dict[tuple[str, ...], float]
"""Mean loss by the blocks that are removed."""


@part("block choice")
def choose_blocks(
    surgeon: Surgeon,
    plan: PrunePlan,
    state: dict[str, Tensor],
    count: int,
    loss: Callable[[nn.Module, int], float],
    *,
    known: Losses | None = None,
) -> tuple[str, ...]:
    """Return the blocks that `plan` removes, and `count` more, in the order of removal.

    Args:
        surgeon: Cuts the candidates.
        plan: What was removed so far.
        state: Base-shaped weights of the network that `plan` gives.
        count: Blocks to remove now.
        loss: Gives the loss of a cut network at a side in pixels.
        known: Losses that were measured before with the same weights; those of now are added.
    """
    removed, known = plan.removed_blocks, {} if known is None else known

    def loss_without(name: str) -> float:
        if (*removed, name) not in known:
            known[(*removed, name)] = measured_without(name)
        return known[(*removed, name)]

    def measured_without(name: str) -> float:
        child = surgeon.plan(removed_blocks=(*removed, name), side_px=plan.side_px, state=state, parent=plan)
        return loss(surgeon.cut(child, state), child.side_px)

    losses: dict[str, float] = {}
    for step in range(count):
        candidates = surgeon.removable(surgeon.plan(removed_blocks=removed))
        if not candidates:
            break
        if step == 0 or len(candidates) * count <= GREEDY_CANDIDATES:
            losses = {name: loss_without(name) for name in candidates}
        removed = (*removed, min(candidates, key=lambda name: losses[name]))
    return removed
