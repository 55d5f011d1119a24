"""By gradients: by how much the loss changes, to first order, if a unit's weights go."""

from __future__ import annotations

import torch
from torch import Tensor

from triaxis.surgery.criteria.base import Evidence, mean_over_members, unit_norms, weights_of
from triaxis.surgery.find.channels import ChannelGroup


class Taylor:
    """The sum of |weight x gradient| of all weights that make or read a unit.

    Source:
        Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019.
    """

    needs_gradients = True

    def scores(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Return the sums, relative to their mean in each tensor, averaged over the tensors; a weight without gradient counts 0."""
        state = evidence.state
        products = [
            (m, state[m.tensor].detach().cpu() * evidence.gradients.get(m.tensor, torch.zeros(())).cpu())
            for m in weights_of(group, evidence)
        ]
        return mean_over_members(group, [unit_norms(group, member, product, 1) for member, product in products])
