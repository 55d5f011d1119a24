"""What every task must do; a subclass gives the fixtures `task` and `case`."""

from __future__ import annotations

import dataclasses
import math
import operator
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from triaxis.errors import UnsupportedModelError
from triaxis.tasks import Output, Placed, Task, Window, mapped, tensors_in
from triaxis.values import Recipe

RECIPE = Recipe()


@dataclass(frozen=True)
class TaskCase:
    """Targets of a small split, as `check_targets` gives them, an output that is right, and one that a blind network might give.

    `num_outputs` is what `num_outputs` of the task gives for the targets; `stored_px` is the side of the pictures, where targets have
    places in them.
    """

    targets: Tensor
    right: Output
    blind: Output
    num_outputs: int
    stored_px: int = 8


class _Says(nn.Module):
    """A network whose output is known: weights times one."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.parts = nn.ParameterList(part.clone() for part in tensors_in(output))
        self.names = list(output) if isinstance(output, dict) else None

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Any:
        parts = [part * 1 for part in self.parts]
        return dict(zip(self.names, parts, strict=True)) if self.names else parts[0]


def _loss(task: Task, case: TaskCase, output: Output) -> float:
    return task.loss(output, case.targets, RECIPE).item()


class TaskContract:
    """Subclass it under a name that pytest collects. `task` and `case` must be overridden."""

    @pytest.fixture
    def task(self) -> Task:
        """Return the task under test."""
        raise NotImplementedError

    @pytest.fixture
    def case(self) -> TaskCase:
        """Return targets with a right and a blind output, of 8 images or more."""
        raise NotImplementedError

    def test_it_has_all_that_a_task_has_and_can_be_sent_away(self, task: Task) -> None:
        assert isinstance(task, Task) and task.name
        assert pickle.loads(pickle.dumps(task)).name == task.name

    def test_targets_are_known_from_the_outputs_they_need(self, task: Task, case: TaskCase) -> None:
        assert task.num_outputs(case.targets) == case.num_outputs
        checked = task.check_targets(case.targets, case.num_outputs, "train")
        assert torch.equal(checked, case.targets) and checked.dtype == case.targets.dtype

    def test_outputs_of_a_model_pass_and_other_shapes_do_not(self, task: Task, case: TaskCase) -> None:
        model, num_images = _Says(case.right).eval(), len(case.targets)
        output = task.forward(model, torch.zeros(num_images, 3, 8, 8))
        assert all(torch.equal(a, b) for a, b in zip(tensors_in(output), tensors_in(case.right), strict=True))
        task.check_output(output, num_images, case.num_outputs)
        for wrong in (None, [1.0], torch.zeros(num_images)):
            with pytest.raises(UnsupportedModelError):
                task.check_output(wrong, num_images, case.num_outputs)

    def test_the_right_output_has_the_smaller_loss(self, task: Task, case: TaskCase) -> None:
        right, blind = _loss(task, case, case.right), _loss(task, case, case.blind)
        assert math.isfinite(right) and math.isfinite(blind) and right < blind

    def test_the_loss_has_a_gradient_and_is_a_mean_over_images(self, task: Task, case: TaskCase) -> None:
        model = _Says(case.blind).train()
        output = task.forward(model, torch.zeros(len(case.targets), 3, 8, 8), case.targets)
        task.loss(output, case.targets, RECIPE).backward()
        assert any(part.grad is not None and bool(part.grad.any()) for part in model.parts)
        twice = mapped(case.blind, lambda part: torch.cat([part, part]))
        doubled = task.loss(twice, torch.cat([case.targets, case.targets]), RECIPE).item()
        assert doubled == pytest.approx(_loss(task, case, case.blind), rel=1e-4)

    def test_the_teachers_own_output_is_nearest_to_it(self, task: Task, case: TaskCase) -> None:
        if not task.distils:
            pytest.skip("this task does not distil")
        taught = case.right
        same, other = (task.distillation(output, taught, temperature=2.0, weight=0.5).item() for output in (taught, case.blind))
        assert same < other
        assert task.distillation(case.blind, taught, temperature=2.0, weight=1.0).item() == pytest.approx(2 * other, rel=1e-4)

    def test_a_score_lies_within_its_interval_and_rises_with_what_is_right(self, task: Task, case: TaskCase) -> None:
        right, blind = (task.score([task.observe(output, case.targets)]) for output in (case.right, case.blind))
        for found in (right, blind):
            low, high = found.interval
            assert 0 <= low <= found.value <= high <= 1 and math.isfinite(found.loss)
        assert right.interval[0] < right.interval[1], "a few images never make it certain"
        assert right.value > blind.value and right.loss < blind.loss

    def test_batches_do_not_matter(self, task: Task, case: TaskCase) -> None:
        whole = task.score([task.observe(case.blind, case.targets)])
        cut = len(case.targets) // 3
        batches = (slice(0, cut), slice(cut, None))
        found = task.score([task.observe(mapped(case.blind, operator.itemgetter(rows)), case.targets[rows]) for rows in batches])
        assert (found.value, *found.interval, found.loss) == pytest.approx((whole.value, *whole.interval, whole.loss), rel=1e-6)

    def test_a_plain_recipe_suits_it(self, task: Task, case: TaskCase) -> None:
        assert task.transform(RECIPE, case.num_outputs) is None

    def test_targets_with_places_move_with_the_picture(self, task: Task, case: TaskCase) -> None:
        if not isinstance(task, Placed):
            pytest.skip("the targets of this task have no places")
        num, side = len(case.targets), case.stored_px
        whole, turned = Window.middle(num, side, side), dataclasses.replace(Window.middle(num, side, side), flips=torch.ones(num).bool())
        assert torch.allclose(task.moved(case.targets, whole, side).double(), case.targets.double())
        once = task.moved(case.targets, turned, side)
        assert not torch.equal(once, case.targets), "a mirrored picture has mirrored targets"
        assert torch.allclose(task.moved(once, turned, side).double(), case.targets.double(), atol=1e-6)
