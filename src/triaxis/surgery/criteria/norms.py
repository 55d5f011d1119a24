"""By size: the norm of all weights that make or read a unit."""

from __future__ import annotations

from torch import Tensor

from triaxis.surgery.criteria.base import Evidence, mean_over_members, unit_norms, weights_of
from triaxis.surgery.find.channels import ChannelGroup


class _Norm:
    needs_gradients = False
    power: int

    def scores(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Return the norms, relative to their mean in each tensor, averaged over the tensors."""
        parts = [unit_norms(group, member, evidence.state[member.tensor], self.power) for member in weights_of(group, evidence)]
        return mean_over_members(group, parts)


class L1(_Norm):
    """The sum of magnitudes."""

    power = 1


class L2(_Norm):
    """The root of the sum of squares."""

    power = 2
