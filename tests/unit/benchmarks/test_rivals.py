"""The CIFAR-10 benchmark's own decisions: cuts within the budget, equal effort, statistics, and a figure that is well formed."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from rivals import cuts, profiles, results, run, speed, tables, training, width
from rivals.arms import MAKERS, path_levels
from rivals.picture import svg

from triaxis.errors import ConfigError
from triaxis.maths.frontier import EQUAL_SPLIT
from triaxis.metrics.macs import count_macs
from triaxis.models.weights import load_model
from triaxis.values import BudgetSpec, CostTable

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def base() -> nn.Module:
    torch.manual_seed(0)
    model = load_model("cifar:resnet8", {"width": 0.5}, 4, None).model
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("name", width.CRITERIA)
def test_a_width_cut_is_made_again_from_its_history(base: nn.Module, name: str) -> None:
    model, history = width.prune_width(base, width.CRITERIA[name], 0.4, SHAPE, 4)
    again = width.replay(base, history, SHAPE, 4)
    again.load_state_dict(model.state_dict())
    images = torch.randn(2, *SHAPE)
    assert count_macs(model, SHAPE) < 0.8 * count_macs(base, SHAPE)
    torch.testing.assert_close(again.eval()(images), model.eval()(images))
    assert model(images).shape == (2, 4)


def test_sparse_regularisation_acts_on_every_step_and_only_inside(base: nn.Module) -> None:
    model = copy.deepcopy(base)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    def step() -> float:
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        return max((p - before[name]).abs().max().item() for name, p in model.named_parameters())

    assert step() == 0
    with width.sparse_regularisation(model, width.CRITERIA["width_group_norm"], SHAPE, 4):
        moved = step()
    assert moved > 0
    assert step() == moved


def costing(fractions: list[float]) -> Any:
    """A run whose networks cost what a list says."""
    return SimpleNamespace(fractions=fractions)


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 0), (0.5, 2), (0.34, 3), (0.1, 4)])
def test_the_dearest_cut_within_the_budget_is_found(monkeypatch: pytest.MonkeyPatch, limit: float, expected: int) -> None:
    fractions = [1.0, 0.7, 0.5, 0.3, 0.1]
    monkeypatch.setattr(cuts, "cost_fraction", lambda opened, budget: lambda model, side: fractions[side])
    made = cuts.dearest_within(costing(fractions), BudgetSpec(metric="macs", fraction=limit), _start, 5)
    assert made.cut.side_px == expected


def _start(step: int) -> cuts.Start:
    return cuts.Start(cuts.Cut(step), nn.Identity())


def test_a_budget_out_of_reach_names_the_smallest_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "cost_fraction", lambda opened, budget: lambda model, side: 1 - 0.1 * side)
    with pytest.raises(cuts.OutOfReachError) as caught:
        cuts.dearest_within(costing([]), BudgetSpec(metric="macs", fraction=0.05), _start, 5)
    assert caught.value.smallest == pytest.approx(0.6)


def test_a_lucky_latency_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reading of cut 1 is within the budget, the second is not: the next cut is taken."""
    readings = {0: [1.0], 1: [0.4, 0.6], 2: [0.4, 0.4]}
    monkeypatch.setattr(cuts, "cost_fraction", lambda opened, budget: lambda model, side: readings[side].pop(0))
    made = cuts.dearest_within(costing([]), BudgetSpec(metric="latency_ms", fraction=0.5), _start, 3)
    assert made.cut.side_px == 2


def case(budget: str, arm: str) -> training.Case:
    records = {"base": {"macs": 1000, "params": 10, "train_macs": 3e6}, "collection": {"train_macs": 4e5}}
    store = SimpleNamespace(record=records.get)
    recipe = SimpleNamespace(epochs=8, batch_size=32)
    run_ = SimpleNamespace(store=store, config=SimpleNamespace(finetune=recipe))
    opened = SimpleNamespace(run=run_, data=SimpleNamespace(splits=SimpleNamespace(train=range(105))))
    return training.Case(opened, profiles.TINY, budget, arm)  # type: ignore[arg-type]


def test_effort_is_the_same_for_all_arms_of_a_budget() -> None:
    found = case("macs=25%", "depth")
    assert found.images_per_epoch == 96
    assert found.effort == 8 * 96 * 250
    assert found.epochs(found.effort, 250) == 8
    assert found.epochs(found.effort, 125) == 16
    assert found.epochs(1.0, 250) == 1
    paid = case("macs=25%", "equal_split+collection")
    assert paid.effort == found.effort + 4e5
    assert paid.method == "equal_split"


def test_the_strongest_rivals_are_the_equal_split_and_the_best_width_only_arm_on_val() -> None:
    accuracy = {"width_l2": 0.7, "width_bn": 0.8, "equal_split": 0.6, "triaxis": 0.9}
    records = {f"arm:macs=25%:{arm}": {"state": "done", "val_accuracy": found} for arm, found in accuracy.items()}
    records["arm:macs=25%:width_group_norm"] = {"state": "infeasible"}
    opened = SimpleNamespace(run=SimpleNamespace(store=SimpleNamespace(record=records.get)))
    assert run.strongest(opened, "macs=25%") == ("equal_split", "width_bn")  # type: ignore[arg-type]
    assert run.strongest(opened, "macs=50%") == ()  # type: ignore[arg-type]


def test_every_arm_has_a_maker_a_name_and_a_style() -> None:
    from rivals.picture import STYLES

    names = {*profiles.ARMS, *profiles.OPTIONAL_ARMS}
    assert names == set(MAKERS) == set(results.LABELS) == set(STYLES)


def test_reinitialised_weights_are_new_and_follow_the_seed(base: nn.Module) -> None:
    first, second, other = copy.deepcopy(base), copy.deepcopy(base), copy.deepcopy(base)
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        training.reinitialise(model, seed)
    for a, b, c, old in zip(first.parameters(), second.parameters(), other.parameters(), base.parameters(), strict=True):
        assert torch.equal(a, b)
        if a.dim() == 4:
            assert not torch.equal(a, c)
            assert not torch.equal(a, old)
    assert all(bool((m.weight == 1).all()) for m in first.modules() if isinstance(m, nn.BatchNorm2d))


def test_the_path_falls_in_macs_and_starts_at_the_base_model() -> None:
    depth, side = (1.0, 0.75, 0.5), (1.0, 0.8, 0.6)
    cube = tuple(tuple(tuple(d * w**2 * r**2 for r in side) for w in side) for d in depth)
    table = CostTable(blocks=(4, 3, 2), widths=side, sides_px=(20, 16, 12), depth=depth, width=side, resolution=side, costs={"macs": cube})
    path = path_levels(table, EQUAL_SPLIT)
    macs = [cube[i][j][k] for i, j, k in path]
    assert path[0] == (0, 0, 0)
    assert macs == sorted(macs, reverse=True)
    assert len(path) >= 3


def test_a_speed_up_of_as_much_as_the_macs_reduction_is_one() -> None:
    fields = speed.speed_fields({"eager": {"1": {"speedup": 2.0}}, "onnxruntime": {"64": {"speedup": 4.0}}}, 0.25)
    assert fields["speedup_batch1"] == 2.0
    assert fields["speedup_per_macs_batch1"] == 0.5
    assert fields["onnxruntime_speedup_per_macs_batch64"] == 1.0


def test_the_paired_test_is_students() -> None:
    # Differences 1, 2, 3: mean 2, standard deviation 1, t = 2 sqrt(3) with 2 degrees of freedom.
    found = results.paired({0: 2.0, 1: 4.0, 2: 6.0, 9: 0.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert found is not None
    t = 2 * math.sqrt(3)
    assert found.mean == pytest.approx(2)
    assert found.spread == pytest.approx(1)
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert results.paired({0: 1.0}, {1: 1.0}) is None
    single = results.paired({0: 1.0}, {0: 0.5})
    assert single == results.Difference(0.5, None, None)
    equal = results.paired({0: 1.0, 1: 1.0}, {0: 0.5, 1: 0.5})
    assert equal is not None and equal.p is None


def example(seeds: int = 2) -> dict[str, Any]:
    records = [
        {"arm": arm, "budget": budget, "seed": seed, "state": "done", "val_accuracy": 0.7, "test_accuracy": accuracy + 0.01 * seed}
        | {"macs_fraction": share, "speedup_batch1": 1.5, "speedup_batch64": 2.0, "train_cost": 0.1}
        for seed in range(seeds)
        for arm, accuracy in (("triaxis", 0.75), ("depth", 0.7))
        for budget, share in (("macs=50%", 0.5), ("macs=12%", 0.11))
    ]
    records.append({"arm": "resolution", "budget": "macs=12%", "seed": 0, "state": "infeasible", "smallest_fraction": 0.2})
    seed_entries = [
        {"seed": s, "base": {"val_accuracy": 0.8, "test_accuracy": 0.79}, "collection": {"cost_ratio": 0.4}} for s in range(seeds)
    ]
    machine = {"device": "a < b & c", "threads": 2}
    return {"title": "An <example>", "machine": machine, "versions": {"torch": "2"}, "seeds": seed_entries, "records": records}


def test_the_tables_give_mean_spread_and_lead() -> None:
    page = tables.markdown(example(), profiles.CPU, "python ...")
    row = next(line for line in page.splitlines() if line.startswith("| depth only"))
    assert "70.50 ± 0.71" in row
    assert "+5.00 ± 0.00" in row
    assert "cannot: at least 20.0% of the base's cost" in page
    assert page.index("## macs=50%") < page.index("## macs=12%")
    widths = {line.count("|") for line in page[page.index("## macs=12%") :].splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_the_published_figures_stand_beside_the_best_epoch() -> None:
    found = example()
    for record in found["records"]:
        record["best_on_test"] = 0.9
    page = tables.markdown(found, profiles.PROFILES["gpu"][0], "python ...")
    assert "ResRep | 93.71 | 2.12" in page
    assert "triaxis at macs=50% | 90.00 ± 0.00 | 2.00" in page


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_figure_is_well_formed_and_draws_every_arm(seeds: int) -> None:
    drawn = ElementTree.fromstring(svg(example(seeds)))
    lines = [e for e in drawn.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2
    height, top = (float(p.split(",")[1]) for p in lines[-1].attrib["points"].split())
    assert height == top  # the same accuracy at both budgets


def test_a_figure_without_any_result_is_still_a_figure() -> None:
    ElementTree.fromstring(svg({**example(), "records": [], "seeds": []}))


def test_a_path_is_understood_as_folder_or_torchvision(tmp_path: Path) -> None:
    assert profiles.data_source(str(tmp_path)) == f"imagefolder:{tmp_path}"
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert profiles.data_source(str(tmp_path)) == f"cifar10:{tmp_path}"
    assert profiles.data_source("cifar10:elsewhere") == "cifar10:elsewhere"
    with pytest.raises(ConfigError, match="--data must name a folder"):
        profiles.data_source(str(tmp_path / "missing"))


@pytest.mark.parametrize("text", ["macs=12M", "params=50%", "half"])
def test_a_budget_that_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        profiles.read_budget(text)


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_is_a_valid_configuration(name: str) -> None:
    for profile in profiles.PROFILES[name]:
        config = profile.config("imagefolder:somewhere", 3)
        assert config.seed == 3
        assert all(profiles.read_budget(text) for text in profile.budgets)
        assert set(profile.dear_budgets) <= set(profile.budgets)


def test_the_latency_of_an_arm_is_relative_to_the_base(monkeypatch: pytest.MonkeyPatch, base: nn.Module) -> None:
    asked = []

    def readings(model: nn.Module, shape: Any, runtime: str, batches: Any, device: Any) -> dict[int, Any]:
        asked.append((count_macs(model, shape), shape[1], runtime))
        return {1: len(asked)}

    monkeypatch.setattr(cuts, "readings", readings)
    monkeypatch.setattr(cuts, "relative_latency", lambda a, b: a / b)
    profile = SimpleNamespace(latency_batch=1, runtime="eager")
    opened = SimpleNamespace(
        run=SimpleNamespace(config=SimpleNamespace(profile=profile)),
        base=SimpleNamespace(surgeon=SimpleNamespace(base=base), source=SimpleNamespace(in_channels=3), side_px=16, input_shape=SHAPE),
        trainer=SimpleNamespace(device=None),
    )
    assert cuts.cost_fraction(opened, BudgetSpec(metric="latency_ms", fraction=0.5))(base, 8) == 0.5  # type: ignore[arg-type]
    assert [side for _, side, _ in asked] == [16, 8]
    assert cuts.cost_fraction(opened, BudgetSpec(metric="macs", fraction=0.5))(base, 16) == 1.0  # type: ignore[arg-type]


def test_dear_arms_run_at_the_dear_budgets_only() -> None:
    order = run.Order(profiles.CPU, "imagefolder:somewhere", profiles.CPU.budgets, profiles.ARMS, dear_budgets=("macs=25%",))
    assert set(order.arms_at("macs=25%")) == set(profiles.ARMS)
    assert set(profiles.ARMS) - set(order.arms_at("macs=50%")) == {"scratch"}
    assert set(profiles.ARMS) - set(order.arms_at("latency=50%")) == {"scratch", *profiles.WIDTH_ARMS}
