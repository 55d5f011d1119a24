"""A detector of torchvision's as a network like any other: pictures in, a few tensors out.

torchvision's detectors resize and normalise the pictures, run backbone, pyramid and heads, and turn what the heads say into boxes.
What lies between depends on no value: it is what costs time, and what is cut. `Detector` shows that part to whoever calls it with
pictures alone. Its modules are the detector's own, so that a cut of the one is a cut of the other.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from triaxis.data.images import Preprocess
from triaxis.errors import UnsupportedModelError

FAMILIES = (SSD, RetinaNet, FCOS)
"""torchvision's detectors of one stage."""

Heads = dict[str, Tensor]
"""What the heads say of each anchor: ``cls_logits`` (B, A, K), ``bbox_regression`` (B, A, 4), FCOS also ``bbox_ctrness`` (B, A, 1)."""


class Detector(nn.Module):
    """Backbone, pyramid and heads of a detector, and what makes losses and boxes of them.

    `detector` is torchvision's own model. After a cut it takes pictures of any size, as ever: its transform brings them to the new
    side. It is changed in two ways: its anchors lie where the feature maps see them at every side (`AlignedAnchors`), and pictures
    are stretched to a square and not padded.

    Class 0 is the background, as torchvision has it; classes count from 1.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector
        if isinstance(detector.anchor_generator, AnchorGenerator):
            detector.anchor_generator = AlignedAnchors(detector.anchor_generator.sizes, detector.anchor_generator.aspect_ratios)
        detector.transform.size_divisible = 1

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Heads:
        """Return what the heads say; with targets instead the loss, and in evaluation mode also the boxes.

        Args:
            images: (B, C, S, S), normalised.
            targets: (B, M, 5) boxes as shares of the side and their labels; rows of label 0 are none.

        Returns:
            The heads' tensors; or ``loss`` (B,), whose mean is torchvision's loss of the batch, and what `found` returns.
        """
        heads, grids = self._look(images)
        if targets is None:
            return heads
        with torch.autocast(images.device.type, enabled=False):
            heads = {name: part.float() for name, part in heads.items()}
            anchors = self._anchors(images, grids)
            loss = {"loss": self._loss(heads, anchors, grids, _as_torchvision(targets, images.shape[-1])).expand(len(images))}
            return loss if self.training else {**loss, **self._found(heads, anchors, images.shape[-1])}

    def found(self, images: Tensor) -> dict[str, Tensor]:
        """Return every anchor's box and scores, before those that overlap are left out.

        Returns:
            ``boxes`` (B, A, 4) as x1, y1, x2, y2 in shares of the side, ``scores`` (B, A, K - 1) in [0, 1], the first of class 1.
        """
        heads, grids = self._look(images)
        return self._found(heads, self._anchors(images, grids), images.shape[-1])

    def normalises_as(self, preprocess: Preprocess) -> None:
        """Let the detector's own transform normalise pictures as those were that it was trained on."""
        if preprocess.mean is not None and preprocess.std is not None:
            self.detector.transform.image_mean, self.detector.transform.image_std = list(preprocess.mean), list(preprocess.std)

    def _look(self, images: Tensor) -> tuple[Heads, list[Tensor]]:
        features = self.detector.backbone(images)
        maps = [features] if isinstance(features, Tensor) else list(features.values())
        return self.detector.head(maps), maps

    def _anchors(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """Return (A, 4) in pixels, in float32; they are the same for each picture."""
        sizes = ImageList(images[:1], [(images.shape[-2], images.shape[-1])])
        return self.detector.anchor_generator(sizes, [part[:1].float() for part in maps])[0]

    def _loss(self, heads: Heads, anchors: Tensor, maps: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        detector, every = self.detector, [anchors] * len(targets)
        if isinstance(detector, SSD):
            losses = detector.compute_loss(targets, heads, every, [_matched(detector, target, anchors) for target in targets])
        elif isinstance(detector, FCOS):
            positions = [part.shape[-2] * part.shape[-1] for part in maps]
            losses = detector.compute_loss(targets, heads, every, [n * (len(anchors) // sum(positions)) for n in positions])
        else:
            losses = detector.compute_loss(targets, heads, every)
        return torch.stack(list(losses.values())).sum()

    def _found(self, heads: Heads, anchors: Tensor, side_px: int) -> dict[str, Tensor]:
        detector, logits, regression = self.detector, heads["cls_logits"], heads["bbox_regression"]
        every = anchors.expand_as(regression)
        if isinstance(detector, FCOS):
            boxes = detector.box_coder.decode(regression, every)
            scores = (logits.sigmoid() * heads["bbox_ctrness"].sigmoid()).sqrt()
        else:
            boxes = detector.box_coder.decode_single(regression.reshape(-1, 4), every.reshape(-1, 4)).reshape(regression.shape)
            scores = logits.softmax(-1) if isinstance(detector, SSD) else logits.sigmoid()
        return {"boxes": boxes.clamp(0, side_px) / side_px, "scores": scores[..., 1:]}


class Found(nn.Module):
    """A detector as it is exported: pictures in, every anchor's box and scores out; see `Detector.found`."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``boxes`` (B, A, 4) in shares of the side and ``scores`` (B, A, K - 1)."""
        return self.model.found(images)


def exported(model: nn.Module) -> nn.Module:
    """Return what a file of another format holds of a network: of a detector the boxes, of any other the network itself."""
    return Found(model).train(model.training) if isinstance(model, Detector) else model


class AlignedAnchors(AnchorGenerator):
    """Anchors at the true strides of the feature maps.

    torchvision takes the side over the map's side for the stride, rounded down. That is right where the stride divides the side, and
    else moves the anchors, which would hurt a network at all sides but a few. A map's true stride is the power of two from there up.
    """

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors (A, 4) of each picture, in pixels."""
        grids = [[int(n) for n in part.shape[-2:]] for part in feature_maps]
        sides, first = [int(n) for n in image_list.tensors.shape[-2:]], feature_maps[0]
        strides = [[torch.tensor(_stride(side, n), device=first.device) for side, n in zip(sides, grid, strict=True)] for grid in grids]
        self.set_cell_anchors(first.dtype, first.device)
        anchors = torch.cat(self.grid_anchors(grids, strides))
        return [anchors for _ in image_list.image_sizes]


def _stride(side_px: int, num_positions: int) -> int:
    return 2 ** math.ceil(math.log2(side_px / num_positions) - 1e-9)


def as_detector(model: nn.Module) -> nn.Module:
    """Return a detector of torchvision's as a `Detector`, which holds it and changes it; any other network as it is.

    Raises:
        UnsupportedModelError: It is a detector of two stages.
    """
    if isinstance(model, GeneralizedRCNN):
        raise UnsupportedModelError(
            f"A detector must be one of one stage, SSD, RetinaNet or FCOS, got {type(model).__name__}: "
            "in the second stage of two, what is computed depends on what was found, so that its cost cannot be counted."
        )
    return Detector(model) if isinstance(model, FAMILIES) else model


def _as_torchvision(targets: Tensor, side_px: int) -> list[dict[str, Tensor]]:
    """Return for each picture the boxes in pixels and the labels, as torchvision has them."""
    rows = [target[target[:, 4] > 0] for target in targets]
    return [{"boxes": row[:, :4].float() * side_px, "labels": row[:, 4].long()} for row in rows]


def _matched(detector: SSD, target: dict[str, Tensor], anchors: Tensor) -> Tensor:
    """Return for each anchor the number of its box, or a negative number; as `SSD.forward` does."""
    if not len(target["boxes"]):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    return detector.proposal_matcher(box_iou(target["boxes"], anchors))
