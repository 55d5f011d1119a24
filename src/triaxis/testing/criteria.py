"""What every criterion must do; a subclass gives the fixture `criterion`."""

from __future__ import annotations

import functools
import zlib

import pytest
import torch
from torch import Tensor, nn

from triaxis.models.cifar import resnet
from triaxis.surgery.criteria import Criterion, Evidence, unit_scores
from triaxis.surgery.cut.apply import tensors_of
from triaxis.surgery.find.channels import ChannelGroup
from triaxis.surgery.surgeon import Surgeon

SIDE_PX = 16


def _plain() -> nn.Module:
    """Return a network without normalisation layers."""
    convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


@functools.cache
def _surgeon(network: str) -> Surgeon:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Surgeon.examine(resnet(8) if network == "residual" else _plain(), side_px=SIDE_PX)


def _evidence(surgeon: Surgeon, seed: int = 0) -> Evidence:
    """Return weights and gradients around zero, and positive scales and statistics; all different, always the same."""

    def drawn(name: str, tensor: Tensor, key: str) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(f"{key} {name}".encode()))
        if tensor.ndim > 1 or key == "gradient":
            return torch.randn(tensor.shape, generator=generator)
        return torch.rand(tensor.shape, generator=generator) + 0.1 if tensor.is_floating_point() else tensor.clone()

    tensors = tensors_of(surgeon.base)
    state = {name: drawn(name, tensor, "state") for name, tensor in tensors.items()}
    return Evidence(state, {name: drawn(name, tensor, "gradient") for name, tensor in tensors.items()}, seed)


def _without(evidence: Evidence, group: ChannelGroup, unit: int) -> Evidence:
    """Return the evidence with all that belongs to one unit set to zero."""
    found = [{name: tensor.clone() for name, tensor in part.items()} for part in (evidence.state, evidence.gradients)]
    for part in found:
        for member in group.members:
            part[member.tensor].index_fill_(member.dim, member.positions[member.units == unit], 0)
    return Evidence(found[0], found[1], evidence.seed)


class CriterionContract:
    """Subclass it under a name that pytest collects. `criterion` must be overridden.

    Set `looks_at_evidence` to False for a criterion, such as chance, that scores a silent unit no lower than others.
    """

    looks_at_evidence = True

    @pytest.fixture
    def criterion(self) -> Criterion:
        """Return the criterion under test."""
        raise NotImplementedError

    @pytest.fixture(params=["residual", "plain"])
    def surgeon(self, request: pytest.FixtureRequest) -> Surgeon:
        """Return a small network that is ready to be cut: one with batch norms and shortcuts, one without."""
        return _surgeon(request.param)

    def test_it_is_a_criterion(self, criterion: Criterion) -> None:
        assert isinstance(criterion, Criterion)
        assert isinstance(criterion.needs_gradients, bool)

    def test_each_unit_has_one_finite_score(self, criterion: Criterion, surgeon: Surgeon) -> None:
        for group in surgeon.layout(()).groups:
            assert unit_scores(group, criterion, _evidence(surgeon)).shape == (group.num_units,)

    def test_the_same_evidence_and_seed_give_the_same_scores(self, criterion: Criterion, surgeon: Surgeon) -> None:
        for group in surgeon.layout(()).groups:
            first, second = (unit_scores(group, criterion, _evidence(surgeon, seed=3)) for _ in range(2))
            assert torch.equal(first, second)
            torch.rand(1)  # the global generator has moved on: it must not matter
            assert torch.equal(first, unit_scores(group, type(criterion)(), _evidence(surgeon, seed=3)))

    def test_nothing_is_changed(self, criterion: Criterion, surgeon: Surgeon) -> None:
        evidence, untouched = _evidence(surgeon), _evidence(surgeon)
        before = {name: tensor.clone() for name, tensor in tensors_of(surgeon.base).items()}
        for group in surgeon.layout(()).groups:
            members = [(m.positions.clone(), m.units.clone()) for m in group.members]
            unit_scores(group, criterion, evidence)
            assert all(torch.equal(m.positions, p) and torch.equal(m.units, u) for m, (p, u) in zip(group.members, members, strict=True))
        for part, same in ((evidence.state, untouched.state), (evidence.gradients, untouched.gradients)):
            assert part.keys() == same.keys() and all(torch.equal(part[name], same[name]) for name in same)
        assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(surgeon.base).items())

    def test_larger_means_keep(self, criterion: Criterion, surgeon: Surgeon) -> None:
        """A unit whose weights, scales and gradients are all zero does nothing: no unit may score below it."""
        if not self.looks_at_evidence:
            pytest.skip("this criterion scores without looking")
        for group in surgeon.layout(()).groups:
            unit = group.num_units // 2
            scores = unit_scores(group, criterion, _without(_evidence(surgeon), group, unit))
            assert scores[unit] == scores.min() < scores.max()

    def test_a_cut_keeps_the_units_with_the_largest_scores(self, criterion: Criterion, surgeon: Surgeon) -> None:
        evidence = _evidence(surgeon)
        plan = surgeon.plan(width=0.5, importance=criterion, state=evidence.state, gradients=evidence.gradients)
        groups = {group.name: group for group in surgeon.layout(()).groups}
        assert plan.channels
        for cut in plan.channels:
            group = groups[cut.group]
            kept = torch.zeros(group.num_units, dtype=torch.bool)
            kept[group.unit_of[list(cut.kept)]] = True
            scores = unit_scores(group, criterion, evidence)
            assert scores[kept].min() >= scores[~kept].max()
        assert surgeon.plan(importance=criterion, gradients=evidence.gradients).is_identity
