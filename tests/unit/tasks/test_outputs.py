"""Whatever a model returns, all of its tensors are found, compared and handed over."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from triaxis.errors import UnsupportedModelError
from triaxis.tasks import Window, make_task, named_tensors, placed
from triaxis.tasks.outputs import Flat, difference, flat

Pair = namedtuple("Pair", ["logits", "aux"])
A, B = torch.arange(6.0).view(2, 3), torch.ones(2)


@dataclass
class Own:
    out: torch.Tensor
    scores: list[torch.Tensor]
    count: int = 3


class Plain:
    def __init__(self) -> None:
        self.boxes, self.name = A, "no tensor"
        self.me = self  # objects may hold themselves


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (A, ["logits"]),
        ({"out": A, "aux": B}, ["out", "aux"]),
        ((A, [B, {"deep": A}]), ["0", "1.0", "1.1.deep"]),
        (Pair(A, B), ["logits", "aux"]),
        (Own(A, [B, B]), ["out", "scores.0", "scores.1"]),
        (Plain(), ["boxes"]),
        ({"none": None, "kept": B, "layer": nn.Linear(2, 2)}, ["kept"]),
    ],
)
def test_tensors_are_named_by_their_paths(raw: object, names: list[str]) -> None:
    assert list(named_tensors(raw)) == names


def test_outputs_differ_where_any_of_their_tensors_does() -> None:
    assert difference(Own(A, [B]), Own(A, [B])) == 0
    assert difference(Own(A, [B]), Own(A, [0.5 * B])) == 1.0, "relative to the largest number of that tensor alone"
    assert difference((A, B), (A, torch.full((2,), float("nan")))) == float("inf")
    assert difference((A, B), (A,)) == difference((A, B), (A, B[:1])) == float("inf")


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> Own:
        return Own(self.fc(x), [x])


def test_a_flat_model_gives_a_mapping_and_a_model_of_one_tensor_stays_itself() -> None:
    fc, two = nn.Linear(3, 3), Two()
    assert flat(fc, A) == (fc, ("logits",))
    made, names = flat(two, A)
    assert isinstance(made, Flat) and names == ("out", "scores.0") == tuple(made(A))


def test_a_task_says_which_output_it_misses() -> None:
    with pytest.raises(UnsupportedModelError, match="as logits or out among several, got dict with boxes, scores"):
        make_task("classification").check_output({"boxes": A, "scores": B}, 2, 3)


def test_a_window_shows_what_slices_and_flips_show() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 9, (5, 10, 10), generator=generator)
    offsets, flips = torch.randint(0, 5, (5, 2), generator=generator), torch.tensor([True, False, True, False, False])
    window = Window(offsets, flips, 1, 8)
    padded = torch.nn.functional.pad(masks[:, None].float(), (1, 1, 1, 1), mode="reflect")[:, 0].long()
    shown = [padded[i, top : top + 8, left : left + 8] for i, (top, left) in enumerate(offsets.tolist())]
    expected = torch.stack([part.flip(1) if flip else part for part, flip in zip(shown, flips.tolist(), strict=True)])
    assert torch.equal(window.of(masks), expected)
    assert torch.equal(window.of(masks[:, None].repeat(1, 3, 1, 1))[:, 2], expected)


def test_labels_without_places_stay_and_masks_move() -> None:
    masks, window = torch.arange(32).view(2, 4, 4), Window(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([True, True]), 0, 4)
    assert torch.equal(placed(make_task("segmentation"), masks, window, 4), masks.flip(2))
    assert placed(make_task("classification"), masks, window, 4) is masks
    assert Window.middle(2, 4, 4).is_whole(4) and not window.is_whole(4) and not Window.middle(2, 4, 2).is_whole(4)
