"""Each criterion in the box keeps the contract, and the scores are those of the formulas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triaxis.errors import ConfigError
from triaxis.surgery.criteria import BOX, Criterion, Evidence, criterion_of, unit_scores
from triaxis.surgery.criteria.control import First, Random
from triaxis.surgery.surgeon import Surgeon
from triaxis.testing import CriterionContract
from triaxis.testing.criteria import _evidence, _surgeon


@pytest.mark.parametrize("name", [name for name in BOX if name != "random"])
class TestInTheBox(CriterionContract):
    @pytest.fixture
    def criterion(self, name: str) -> Criterion:
        return criterion_of(name)


class TestRandom(CriterionContract):
    looks_at_evidence = False

    @pytest.fixture
    def criterion(self) -> Criterion:
        return criterion_of("random")

    def test_another_seed_gives_other_scores(self, surgeon: Surgeon) -> None:
        group = surgeon.layout(()).groups[0]
        assert not torch.equal(*(unit_scores(group, Random(), Evidence({}, seed=seed)) for seed in (0, 1)))


class TestFirst(CriterionContract):
    looks_at_evidence = False

    @pytest.fixture
    def criterion(self) -> Criterion:
        return First()


class Constant:
    """A criterion that gives what it is told to."""

    needs_gradients = False

    def __init__(self, made: object) -> None:
        self.made = made

    def scores(self, group: object, evidence: object) -> object:
        return self.made


@pytest.mark.parametrize(
    ("made", "words"),
    [(torch.ones(3), r"shape \(16,\).*got \(3,\)"), ([1.0], "got list"), (torch.full((16,), torch.nan), "finite"), (None, "NoneType")],
)
def test_wrong_scores_are_named(made: object, words: str) -> None:
    group = _surgeon("plain").layout(()).groups[0]
    with pytest.raises(ConfigError, match=words):
        unit_scores(group, Constant(made), Evidence({}))  # type: ignore[arg-type]


def test_taylor_without_gradients_is_refused() -> None:
    with pytest.raises(ConfigError, match="Taylor must be given gradients"):
        _surgeon("plain").plan(width=0.5, importance="taylor")


def test_norms_are_their_formula_to_the_last_digit() -> None:
    """Each tensor's norms are divided by their mean, and the tensors averaged; vectors do not count."""
    surgeon = _surgeon("plain")
    state, group = _evidence(surgeon).state, surgeon.layout(()).groups[0]
    made, read = state["0.weight"], state["2.weight"]
    for name, power in (("l1", 1), ("l2", 2)):
        parts = [t.abs().pow(power).reshape(16, -1).sum(1).pow(1 / power) for t in (made, read.transpose(0, 1))]
        expected = torch.stack([norms / norms.mean() for norms in parts]).mean(0)
        assert torch.equal(unit_scores(group, criterion_of(name), Evidence(state)), expected)


def test_bn_looks_at_scales_alone() -> None:
    surgeon = _surgeon("residual")
    evidence = _evidence(surgeon)
    other = {n: t * 3 if t.ndim > 1 else t for n, t in evidence.state.items()}
    for group in surgeon.layout(()).groups:
        assert torch.equal(*(unit_scores(group, criterion_of("bn"), Evidence(state)) for state in (evidence.state, other)))


def test_taylor_is_weight_times_gradient() -> None:
    """The same as the norm of the products, and blind to a weight whose gradient is zero, however large."""
    surgeon = _surgeon("residual")
    evidence = _evidence(surgeon)
    products = {name: tensor * evidence.gradients[name] for name, tensor in evidence.state.items()}
    for group in surgeon.layout(()).groups:
        scores = unit_scores(group, criterion_of("taylor"), evidence)
        assert torch.equal(scores, unit_scores(group, criterion_of("l1"), Evidence(products)))


def test_a_name_of_the_users_own_is_found_and_a_wrong_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_scores.py").write_text(
        "import torch\n\n\nclass Last:\n    needs_gradients = False\n\n    def scores(self, group, evidence):\n"
        "        return torch.arange(float(group.num_units))\n\n\nclass Nothing:\n    pass\n\n\ndef broken():\n    raise ValueError('no')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plan = _surgeon("plain").plan(width=0.5, importance="my_own_scores:Last")
    assert plan.channels[0].kept == tuple(range(8, 16))
    for name, words in (
        ("my_own_scores:Nothing", "must have needs_gradients"),
        ("my_own_scores:Missing", "must name an importable"),
        ("nowhere_at_all:Last", "must name an importable"),
        ("my_own_scores:broken", "without arguments, got ValueError: no"),
        ("tailor", "did you mean taylor"),
    ):
        with pytest.raises(ConfigError, match=words):
            criterion_of(name)
