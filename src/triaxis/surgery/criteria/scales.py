"""By statistics: the scales of the batch norms that a unit passes through."""

from __future__ import annotations

from torch import Tensor

from triaxis.surgery.criteria.base import Evidence, mean_over_members, unit_norms
from triaxis.surgery.criteria.norms import L2
from triaxis.surgery.find.channels import ChannelGroup


class BatchNormScale:
    """The magnitude of the normalisation layers' scales; the 2-norm of the weights where a group has none.

    Source:
        Liu et al., Learning Efficient Convolutional Networks, ICCV 2017.
    """

    needs_gradients = False

    def scores(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Return the scales, relative to their mean in each layer, averaged over the layers."""
        state = evidence.state
        # Scales are vectors with a bias beside them.
        scales = [
            m
            for m in group.members
            if m.tensor.endswith(".weight") and state[m.tensor].ndim == 1 and m.tensor[: -len("weight")] + "bias" in state
        ]
        if not scales:
            return L2().scores(group, evidence)
        return mean_over_members(group, [unit_norms(group, m, state[m.tensor], 1) for m in scales])
