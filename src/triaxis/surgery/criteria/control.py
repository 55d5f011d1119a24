"""By nothing that was learnt: chance, the honest control for every other criterion, and the order of the channels."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from triaxis.surgery.criteria.base import Evidence
from triaxis.surgery.find.channels import ChannelGroup


class Random:
    """Scores drawn by chance from the group's name and the seed: the same in every trial, so that chains nest."""

    needs_gradients = False

    def scores(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Return uniform numbers in [0, 1)."""
        generator = torch.Generator().manual_seed((zlib.crc32(group.name.encode()) + evidence.seed) % 2**63)
        return torch.rand(group.num_units, generator=generator)


class First:
    """Keeps the first channels: for counting costs, where it matters only how many stay."""

    needs_gradients = False

    def scores(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Return falling numbers."""
        return -torch.arange(group.num_units, dtype=torch.float32)
