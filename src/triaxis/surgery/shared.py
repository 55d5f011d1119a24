"""One set of base-shaped weights, run and trained through any cut: what a cut keeps is gathered at each pass."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from triaxis.errors import UnsupportedModelError
from triaxis.process.convolutions import contiguous_copy, guard, is_at_risk
from triaxis.surgery.criteria import Criterion, Evidence, unit_scores
from triaxis.surgery.criteria.norms import L2
from triaxis.surgery.cut import apply
from triaxis.surgery.find.channels import ChannelGroup
from triaxis.surgery.find.planning import Scope
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import PrunePlan


class FixedOrder:
    """A criterion that knows its scores beforehand, so that a narrower cut keeps a part of what a wider one keeps.

    Args:
        channels: By name of the uncut model's channel group one score for each channel, from `channel_order`.
    """

    needs_gradients = False

    def __init__(self, channels: Mapping[str, Tensor]) -> None:
        self.channels = channels

    def scores(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Return the sum of each unit's scores; the 2-norm of the weights for a group that removed blocks have made anew."""
        known = self.channels.get(group.name)
        if known is None or len(known) != group.num_channels:
            return L2().scores(group, evidence)
        return torch.zeros(group.num_units).index_add_(0, group.unit_of, known)


def channel_order(surgeon: Surgeon, criterion: Criterion, gradients: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> FixedOrder:
    """Return the order in which the uncut model's channels go, as a criterion for every cut.

    Args:
        surgeon: Knows the channel groups of the uncut model.
        criterion: Ranks them once, by the base model's weights.
        gradients: Base-shaped gradients of the loss, for a criterion that needs them.
        seed: For a criterion that draws by chance.
    """
    order, evidence = {}, Evidence(apply.tensors_of(surgeon.base), gradients or {}, seed)
    for group in surgeon.layout(()).groups:
        sizes = torch.bincount(group.unit_of, minlength=group.num_units)
        order[group.name] = (unit_scores(group, criterion, evidence) / sizes)[group.unit_of]
    return FixedOrder(order)


@dataclass(frozen=True)
class NestedCuts:
    """Cuts of which a smaller one keeps a part of what a larger one keeps: blocks and channels go in one fixed order.

    `block_order` are the removable blocks in the order in which they go.
    """

    surgeon: Surgeon
    block_order: tuple[str, ...]
    channels: FixedOrder
    scope: Scope = "uniform"

    def plan(self, num_blocks: int, width: float, side_px: int) -> PrunePlan:
        """Return the plan that keeps so many blocks, this share of the channels, and pictures of this side."""
        removed = self.block_order[: self.surgeon.identity().num_blocks - num_blocks]
        return self.surgeon.plan(removed_blocks=removed, width=width, side_px=side_px, importance=self.channels, scope=self.scope)


class SharedWeights:
    """Base-shaped weights that cuts share; `model` holds them, and takes the gradients of every cut that is run.

    Args:
        surgeon: Cuts the model.
        device: Where cuts run.
        memory_format: Of weights and activations.

    Raises:
        UnsupportedModelError: The network has weights whose shapes depend on the side, such as position tables.
    """

    def __init__(self, surgeon: Surgeon, device: torch.device, memory_format: torch.memory_format = torch.channels_last) -> None:
        if any(surgeon.needs_resize(side_px) for side_px in surgeon.sides_px()):
            raise UnsupportedModelError(
                "Cuts can share weights only where no weight depends on the side of the pictures, but this network's do: "
                "set collect.method: chains."
            )
        self.surgeon, self.device, self.memory_format = surgeon, device, memory_format
        self.model = copy.deepcopy(surgeon.base).to(device=device).to(memory_format=memory_format)
        self._cuts: dict[PrunePlan, SharedCut] = {}

    def cut(self, plan: PrunePlan) -> SharedCut:
        """Return the plan's cut, which has no weights of its own; kept for the next time, and for the other sides."""
        key = dataclasses.replace(plan, side_px=plan.base_side_px)
        if key not in self._cuts:
            self._cuts[key] = SharedCut(self, plan)
        return self._cuts[key]

    def state(self) -> dict[str, Tensor]:
        """Return the shared weights, base-shaped."""
        return {name: tensor.detach() for name, tensor in self.model.state_dict().items()}


class SharedCut:
    """A cut of shared weights in training mode: batch norms use the batch at hand, gradients go to the shared weights."""

    def __init__(self, shared: SharedWeights, plan: PrunePlan) -> None:
        self.full = dict(shared.model.named_parameters())
        kept = shared.surgeon.kept(plan)
        frame = shared.surgeon.cut(plan).to(device=shared.device).to(memory_format=shared.memory_format)
        self.frame: nn.Module = frame.train()
        guard(self.frame)
        self.at_risk = {f"{name}.weight" for name, module in frame.named_modules() if is_at_risk(module)}
        self.names = [name for name, _ in frame.named_parameters()]
        self.kept = {name: {d: at.to(shared.device) for d, at in kept.get(name, {}).items()} for name in self.names}
        self.memory_format = shared.memory_format

    def __call__(self, images: Tensor, *more: Tensor) -> object:
        """Return what the network returns, such as logits (B, K), for normalised images (B, C, S, S) at the cut's side.

        What else a network takes, as a detector its targets, may follow the images.
        """
        return functional_call(self.frame, {name: self._gathered(name) for name in self.names}, (images, *more))

    def _gathered(self, name: str) -> Tensor:
        tensor: Tensor = self.full[name]
        for dim, positions in self.kept[name].items():
            tensor = tensor.index_select(dim, positions)
        if name in self.at_risk:
            return contiguous_copy(tensor)
        return tensor.contiguous(memory_format=self.memory_format) if tensor.ndim == 4 else tensor
