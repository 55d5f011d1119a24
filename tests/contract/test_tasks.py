"""Each task in the box keeps the contract."""

from __future__ import annotations

import pytest
import torch

from triaxis.config.tasks import TASKS
from triaxis.tasks import BOX, Task, make_task
from triaxis.testing import TaskCase, TaskContract


def _drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("target", ["accuracy", "balanced_accuracy"])
class TestClassification(TaskContract):
    @pytest.fixture
    def task(self, target: str) -> Task:
        return make_task("classification", target=target)  # type: ignore[arg-type]

    @pytest.fixture
    def case(self) -> TaskCase:
        targets = torch.arange(24) % 3
        return TaskCase(targets, 8 * torch.eye(3)[targets], _drawn(24, 3), 3)


class TestMultiLabel(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return make_task("multi_label")

    @pytest.fixture
    def case(self) -> TaskCase:
        targets = (torch.rand(24, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()
        return TaskCase(targets, 8 * (2 * targets - 1), _drawn(24, 4), 4)


class TestRegression(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return make_task("regression")

    @pytest.fixture
    def case(self) -> TaskCase:
        targets = torch.rand(24, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 50.0])
        return TaskCase(targets, targets + 0.01 * _drawn(24, 2), _drawn(24, 2), 2)


class TestSegmentation(TaskContract):
    @pytest.fixture(params=[{}, {"dice": 1.0, "ignore_index": 2}])
    def task(self, request: pytest.FixtureRequest) -> Task:
        return make_task("segmentation", settings=request.param)

    @pytest.fixture
    def case(self) -> TaskCase:
        targets = (torch.rand(12, 8, 8, generator=torch.Generator().manual_seed(1)) * 3).to(torch.uint8)
        targets[:, 0, 0], targets[targets == 2] = 1, 1
        targets[:6, :3, :3] = 0
        return TaskCase(targets, 8 * torch.eye(2)[targets.long()].permute(0, 3, 1, 2).contiguous(), _drawn(12, 2, 8, 8), 2)


class TestDetection(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return make_task("detection")

    @pytest.fixture
    def case(self) -> TaskCase:
        """Each image has a thing of class 1 or 2 in one of four corners; two of the images have another one."""
        pytest.importorskip("pycocotools")
        corners = torch.tensor([[x, y, x + 0.4, y + 0.4] for y in (0.0, 0.5) for x in (0.0, 0.5)])
        places, labels = torch.arange(24) % 4, 1 + torch.arange(24) % 2
        targets = torch.zeros(24, 2, 5)
        targets[:, 0] = torch.cat([corners[places], labels[:, None]], 1)
        targets[:2, 1] = torch.cat([corners[(places[:2] + 1) % 4], labels[:2, None]], 1)
        scores = torch.zeros(24, 4, 2)
        for image, row in zip(*torch.where(targets[..., 4] > 0), strict=True):
            x, y, *_, label = targets[image, row].tolist()
            scores[image, round(2 * x) + 2 * round(2 * y), int(label) - 1] = 0.9
        boxes, blind = corners.expand(24, 4, 4), _drawn(24, 4, 2).sigmoid()
        return TaskCase(
            targets,
            {"boxes": boxes, "scores": scores, "loss": 0.1 + 0.01 * torch.arange(24)},
            {"boxes": boxes, "scores": blind, "loss": 2 + 0.01 * torch.arange(24)},
            3,
        )


def test_the_configuration_knows_the_names_of_the_box() -> None:
    assert set(BOX) == set(TASKS)
