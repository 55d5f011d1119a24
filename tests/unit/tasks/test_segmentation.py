"""Segmentation's losses and score are those of their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triaxis.errors import ConfigError, DataError, UnsupportedModelError
from triaxis.maths import interval
from triaxis.tasks import Segmentation
from triaxis.tasks.segmentation import mask_tensor, pixel_counts
from triaxis.values import Recipe

RECIPE = Recipe()


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def masks(num: int, side: int, classes: int) -> Tensor:
    return torch.randint(0, classes, (num, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_mean_iou_is_counted_pixel_by_pixel() -> None:
    found, wanted = masks(6, 8, 4).long(), masks(6, 8, 4).flip(0)
    wanted[0, :3], wanted[wanted == 3] = 255, 1  # class 3 is found, and never right
    right, seen, there = pixel_counts(found, wanted, 4, 255).double().numpy().transpose(1, 0, 2)
    shares = []
    for label in range(3):
        counts = wanted != 255
        both = ((found == label) & (wanted == label) & counts).sum().item()
        either = (((found == label) | (wanted == label)) & counts).sum().item()
        shares.append(both / either)
    value, (low, high) = interval.mean_iou(right, seen, there)
    assert value == pytest.approx(np.mean(shares)) and low < value < high


def test_the_interval_narrows_with_the_images() -> None:
    rng = np.random.default_rng(0)

    def width(num: int) -> float:
        right = rng.integers(20, 60, (num, 3)).astype(float)
        low, high = interval.mean_iou(right, right + 10, right + 15)[1]
        return high - low

    assert width(400) < 0.5 * width(25)


def test_a_rare_class_may_be_missing_in_a_draw() -> None:
    wanted = np.zeros((12, 2))
    wanted[:, 0], wanted[0, 1] = 50, 5
    value, (low, high) = interval.mean_iou(wanted, wanted + 1, wanted)
    assert 0 <= low <= value <= high <= 1 and np.isfinite([low, high]).all()


def test_the_loss_is_a_mean_over_the_pixels_of_each_image_and_ignores_some() -> None:
    logits, wanted = drawn(2, 3, 4, 4), masks(2, 4, 3)
    wanted[0, 1:] = 255
    first = F.cross_entropy(logits[:1, :, :1], wanted[:1, :1].long())
    second = F.cross_entropy(logits[1:], wanted[1:].long())
    assert Segmentation().loss(logits, wanted, RECIPE).item() == pytest.approx(((first + second) / 2).item(), rel=1e-5)
    noisy = logits.clone()
    noisy[0, :, 1:] = 99 * drawn(3, 3, 4)
    assert torch.equal(Segmentation(dice=1).loss(noisy, wanted, RECIPE), Segmentation(dice=1).loss(logits, wanted, RECIPE))


def test_dice_is_zero_where_all_is_right_and_grows_with_what_is_not() -> None:
    wanted = masks(2, 8, 3)
    right = 50 * F.one_hot(wanted.long(), 3).permute(0, 3, 1, 2).float()
    plain, dice = Segmentation(), Segmentation(dice=1)
    for logits, least, most in ((right, 0.0, 1e-4), (right.roll(1, 1), 0.8, 1.0)):
        added = (dice.loss(logits, wanted, RECIPE) - plain.loss(logits, wanted, RECIPE)).item()
        assert least <= added <= most


def test_small_outputs_are_brought_to_the_side_of_masks_and_of_the_teacher() -> None:
    task, small, wanted = Segmentation(), drawn(2, 3, 4, 4), masks(2, 8, 3)
    large = F.interpolate(small, (8, 8), mode="bilinear")
    assert torch.equal(task.loss(small, wanted, RECIPE), task.loss(large, wanted, RECIPE))
    assert torch.equal(task.observe(small, wanted)[0], task.observe(large, wanted)[0])
    assert task.distillation(small, large, temperature=2.0, weight=1.0).item() == pytest.approx(0, abs=1e-6)


def test_distillation_is_per_pixel() -> None:
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4).flip(0)
    flat = [part.permute(0, 2, 3, 1).reshape(-1, 3) / 2 for part in (student, teacher)]
    expected = 4 * F.kl_div(flat[0].log_softmax(1), flat[1].softmax(1), reduction="batchmean")
    found = Segmentation().distillation(student, teacher, temperature=2.0, weight=0.5)
    assert found.item() == pytest.approx(0.5 * expected.item(), rel=1e-5)


class Returns(nn.Module):
    def __init__(self, raw: object) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, images: Tensor) -> object:
        return self.raw


MAIN, AUX = drawn(2, 3, 8, 8), drawn(2, 3, 4, 4)


@pytest.mark.parametrize("raw", [{"out": MAIN, "aux": AUX}, (MAIN, AUX), [MAIN, {"deep": AUX}]])
def test_an_auxiliary_head_is_trained_and_not_scored(raw: object) -> None:
    task, wanted = Segmentation(aux=0.5), masks(2, 8, 3)
    training, asleep = task.forward(Returns(raw), MAIN, wanted), task.forward(Returns(raw), MAIN)
    assert asleep is MAIN and set(training) == {"out", "aux"}
    both, main = task.loss(training, wanted, RECIPE), task.loss(MAIN, wanted, RECIPE)
    assert both.item() == pytest.approx((main + 0.5 * task.loss(AUX, wanted, RECIPE)).item(), rel=1e-5)
    assert torch.equal(task.observe(training, wanted)[0], task.observe(MAIN, wanted)[0])
    assert Segmentation(aux=0).forward(Returns(raw), MAIN, wanted) is MAIN


def test_what_does_not_suit_masks_is_refused() -> None:
    task = Segmentation()
    for recipe, words in ((Recipe(mixup=0.2), "mixup must be 0"), (Recipe(randaugment="2,9"), "randaugment must be empty")):
        with pytest.raises(ConfigError, match=words):
            task.transform(recipe, 3)
    with pytest.raises(UnsupportedModelError, match="take a model of segmentation"):
        task.check_output(torch.zeros(2, 3), 2, 3)
    for labels, words in (
        (torch.tensor([0, 1]), "square masks"),
        (torch.zeros(2, 4, 5, dtype=torch.uint8), "square masks"),
        (torch.full((2, 4, 4), 7, dtype=torch.uint8), r"classes in 0\.\.2, or 255 for pixels that count nowhere, got 7\.\.7"),
        (torch.full((2, 4, 4), 255, dtype=torch.uint8), "every pixel is 255"),
        (torch.zeros(2, 4, 4), "convert, do not scale"),
    ):
        with pytest.raises(DataError, match=words):
            task.check_targets(labels, 3, "val")


def test_single_masks_come_in_many_forms_and_none_is_scaled() -> None:
    plain = masks(1, 4, 3)[0]
    for form in (plain, plain[None], plain.long(), plain.numpy()):
        assert torch.equal(mask_tensor(form, "train"), plain)
    assert mask_tensor(plain.long() - 100, "train").dtype == torch.int32
    for form, words in ((plain.float() / 255, "PILToTensor"), ("mask.png", "tensors, arrays or PIL images")):
        with pytest.raises(DataError, match=words):
            mask_tensor(form, "train")
