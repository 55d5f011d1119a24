"""Detectors: what the part that is cut says is what torchvision's whole detector says, of boxes and of losses."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from triaxis.data.images import Preprocess
from triaxis.errors import ConfigError, UnsupportedModelError
from triaxis.models.detector import AlignedAnchors, Detector, Found, as_detector
from triaxis.models.weights import load_model
from triaxis.models.zoos import build

SIDE = 64
TINY = {
    "detection:retinanet": {"backbone": "test_resnet", "channels": 16, "last_level": 5},
    "detection:fcos": {"backbone": "test_resnet", "channels": 32, "last_level": 5, "num_convs": 1},
    "detection:ssdlite": {"width_mult": 0.25, "side_px": SIDE},
}
BOXES = torch.tensor([[[0.1, 0.2, 0.6, 0.7, 1], [0.5, 0.5, 0.9, 0.8, 2]], [[0.0, 0.0, 0.5, 1.0, 2], [0, 0, 0, 0, 0]]])


def tiny(name: str) -> Detector:
    torch.manual_seed(0)
    model = build(name, TINY[name], 3)
    assert isinstance(model, Detector)
    model.normalises_as(Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)))
    model.detector.transform.fixed_size = (SIDE, SIDE)
    model.detector.score_thresh = 0.0
    return model


def pictures() -> torch.Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def as_targets(boxes: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    rows = [picture[picture[:, 4] > 0] for picture in boxes]
    return [{"boxes": row[:, :4] * SIDE, "labels": row[:, 4].long()} for row in rows]


@pytest.mark.parametrize("name", TINY)
def test_every_box_of_torchvisions_is_among_those_found_with_its_score(name: str) -> None:
    model = tiny(name).eval()
    with torch.no_grad():
        whole = model.detector(list(pictures()))
        found = model.found((pictures() - 0.5) / 0.25)
    for theirs, boxes, scores in zip(whole, found["boxes"] * SIDE, found["scores"], strict=True):
        assert len(theirs["boxes"]) > 10
        is_class = theirs["labels"] > 0  # RetinaNet and FCOS have an output of the background that is never right
        for box, label, score in zip(theirs["boxes"][is_class], theirs["labels"][is_class], theirs["scores"][is_class], strict=True):
            distance = (boxes - box).abs().amax(1) + (scores[:, label - 1] - score).abs()
            assert distance.min() < 1e-3


@pytest.mark.parametrize("name", TINY)
def test_the_loss_is_torchvisions_own(name: str) -> None:
    model = tiny(name).train()
    expected = torch.stack(list(model.detector(list(pictures()), as_targets(BOXES)).values())).sum()
    found = model((pictures() - 0.5) / 0.25, BOXES)
    assert set(found) == {"loss"} and found["loss"].shape == (2,)
    assert found["loss"].mean().item() == pytest.approx(expected.item(), rel=1e-4)
    found["loss"].mean().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n.endswith("weight"))


@pytest.mark.parametrize("name", TINY)
def test_pictures_without_boxes_have_a_loss(name: str) -> None:
    model = tiny(name).train()
    assert torch.isfinite(model(pictures(), torch.zeros(2, 1, 5))["loss"]).all()


def test_in_evaluation_mode_targets_give_loss_and_boxes() -> None:
    model = tiny("detection:fcos").eval()
    found = model(pictures(), BOXES)
    alone = Found(model)(pictures())
    assert set(found) == {"loss", "boxes", "scores"} and set(alone) == {"boxes", "scores"}
    assert all(torch.equal(found[key], alone[key]) for key in alone)
    assert found["scores"].shape[-1] == 2 and 0 <= float(found["boxes"].detach().min()) <= float(found["boxes"].detach().max()) <= 1


def _anchors(generator: AnchorGenerator, side: int, grids: list[int]) -> torch.Tensor:
    images = ImageList(torch.zeros(1, 3, side, side), [(side, side)])
    return generator(images, [torch.zeros(1, 1, n, n) for n in grids])[0]


def test_anchors_are_torchvisions_where_strides_divide_the_side_and_lie_right_elsewhere() -> None:
    sizes, aspects = ((16,), (32,)), ((1.0,),) * 2
    theirs, ours = AnchorGenerator(sizes, aspects), AlignedAnchors(sizes, aspects)
    assert torch.equal(_anchors(ours, 96, [12, 6]), _anchors(theirs, 96, [12, 6]))
    # At 104 px, 16 pixels lie between the centres of the second map, of which there are 7; torchvision says 14.
    found = _anchors(ours, 104, [13, 7])[13 * 13 :]
    assert found[1, 0] - found[0, 0] == 16 and _anchors(theirs, 104, [13, 7])[170, 0] - _anchors(theirs, 104, [13, 7])[169, 0] == 14


def test_torchvisions_own_detectors_are_found_by_name_and_wrapped() -> None:
    loaded = load_model("torchvision:ssdlite320_mobilenet_v3_large", {}, 4)
    assert isinstance(loaded.model, Detector) and loaded.side_px == 320
    assert loaded.preprocess is not None and loaded.preprocess.mean == (0.5, 0.5, 0.5)


def test_torchvisions_weights_go_into_a_detector_with_and_without_its_name(tmp_path) -> None:
    from safetensors.torch import save_file

    model = tiny("detection:fcos")
    for n, state in enumerate((model.state_dict(), model.detector.state_dict())):
        path = tmp_path / f"{n}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        loaded = load_model("detection:fcos", TINY["detection:fcos"], 3, str(path))
        assert loaded.is_trained and all(torch.equal(t, loaded.model.state_dict()[name]) for name, t in model.state_dict().items())


def test_detectors_of_two_stages_are_refused() -> None:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    with pytest.raises(UnsupportedModelError, match="one stage, SSD, RetinaNet or FCOS, got FasterRCNN"):
        as_detector(fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=2))


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("detection:yolo", {}, "detection must have a model of that name"),
        ("detection:ssdlite", {"backbone": "resnet18"}, "must be one of mobilenet_v2"),
        ("detection:fcos", {"channels": 48}, "multiple of 32"),
        ("detection:fcos", {"backbone": "no_such_net"}, "model of timm's that gives feature maps"),
        ("detection:retinanet", {"first_level": 5, "last_level": 6}, "up to 5 or 7"),
        ("detection:retinanet", {"depth": 3}, "must fit detection:retinanet"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_sentence(name: str, args: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(name, args, 3)
