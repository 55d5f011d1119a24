"""The configuration that `triaxis init` writes: complete, commented, chosen by looking at the data."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triaxis.config import Config, config_from_plain
from triaxis.config.text import commented_yaml
from triaxis.data.folders import SMALL_PX, class_names, median_side, pictures, split_folders, tell_classes
from triaxis.errors import DataError

MASKED = ("masks", "digit_scenes")
"""Sources of pictures with masks."""

MIN_STEPS = 16
"""Steps in an epoch below which the batch size is reduced."""

GENTLE = {"epochs": 5, "peak_lr": 0.01}
"""Training of a base model that has pretrained weights and a new classifier: the default recipe would undo the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """What a look at an image folder tells; `side_px` is the median shorter side of a sample, `num_train` what is left to train on."""

    num_images: int
    num_train: int
    class_names: tuple[str, ...]
    side_px: int
    num_bytes: int
    has_val: bool
    has_test: bool

    def __str__(self) -> str:
        mebibytes = self.num_bytes / 2**20
        return f"{self.num_images} images of {len(self.class_names)} classes, about {self.side_px} px, {mebibytes:.0f} MiB on disk"


def look_at_folder(path: str | Path) -> FolderFacts:
    """Count the images and classes of a folder, with or without train, val and test folders in it.

    Raises:
        DataError: There is no such folder, or it holds no class folders with images.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"imagefolder:PATH must name a folder of class folders, but there is no folder {root}.")
    folders = split_folders(root)
    names = class_names(list(folders.values()))
    by_split = {split: [file for name in names for file in pictures(folder / name)] for split, folder in folders.items()}
    files = [file for found in by_split.values() for file in found]
    if not files:
        raise DataError(f"{root} must hold class folders with images in them, but no image was found.")
    tell_classes(names)
    return FolderFacts(
        num_images=len(files),
        num_train=_num_train(len(by_split["train"]), folders),
        class_names=tuple(names),
        side_px=median_side(files),
        num_bytes=sum(file.stat().st_size for file in files),
        has_val="val" in folders,
        has_test="test" in folders,
    )


def _num_train(num: int, folders: Container[str]) -> int:
    """Return how many images of the train folder are left where val and test are drawn from them."""
    drawn = {"val": Config().data.val_fraction, "test": Config().data.test_fraction}
    return int(num * (1 - sum(share for split, share in drawn.items() if split not in folders)))


def starting_config(
    model: str, data: str, budget: str, weights: str | None = None, protect: Sequence[str] = (), prune_only: Sequence[str] = ()
) -> str:
    """Return the YAML text of a configuration for a model, data and budget, with the reasons for what was chosen.

    Raises:
        ConfigError: The model, data or budget has the wrong form.
        DataError: The image folder is not one.
    """
    plain: dict[str, Any] = {"model": {"name": model, "weights": weights}, "data": {"source": data}, "budget": budget}
    plain |= {"protect": list(protect), "prune_only": list(prune_only)}
    config_from_plain(plain, source="triaxis init")
    notes: dict[str, str] = {}
    kind, _, place = data.partition(":")
    if kind == "imagefolder":
        facts = look_at_folder(place)
        notes["data.source"] = f"looked at: {facts}"
        _choose_for(facts, model, plain, notes)
    if kind in MASKED:
        _choose_for_masks(kind, place, model, plain, notes)
    elif weights == "pretrained":
        plain["base"] = {**plain.get("base", {}), **GENTLE}
        notes["base"] = "short and gentle, since the weights are trained already and only the classifier is new"
    head = "# Written by `triaxis init`; every setting is here with its meaning. Delete what you do not change.\n\n"
    return head + commented_yaml(config_from_plain(plain, source="triaxis init"), notes)


def _choose_for_masks(kind: str, place: str, model: str, plain: dict[str, Any], notes: dict[str, str]) -> None:
    """Choose the task, a model that suits it where none was named, the side and what depends on the number of pictures."""
    plain["task"] = "segmentation"
    notes["task"] = "the data have masks"
    if model == Config().model.name:
        plain["model"]["name"] = "unet:basic"
        notes["model.name"] = "a network for masks; torchvision:lraspp_mobilenet_v3_large and unet:resnet18 are others"
    if kind != "masks":
        return
    from triaxis.data.masks import read_folders  # imports torch

    found = read_folders(Path(place).expanduser())
    files = [picture for pairs in found.splits.values() for picture, _ in pairs]
    facts = FolderFacts(
        num_images=len(files),
        num_train=_num_train(len(found.splits["train"]), found.splits),
        class_names=found.class_names,
        side_px=median_side(files),
        num_bytes=sum(file.stat().st_size for file in files),
        has_val="val" in found.splits,
        has_test="test" in found.splits,
    )
    notes["data.source"] = f"looked at: {len(files)} pictures with masks, about {facts.side_px} px"
    _choose_for(facts, plain["model"]["name"], plain, notes)
    plain["model"]["num_classes"] = len(found.class_names) or None


def _choose_for(facts: FolderFacts, model: str, plain: dict[str, Any], notes: dict[str, str]) -> None:
    """Choose sides, splits and batch size by what the folder holds."""
    plain["model"]["num_classes"] = len(facts.class_names)
    if model.startswith("cifar:"):
        plain["data"]["side_px"] = min(32, max(8, facts.side_px))
        notes["data.side_px"] = "the CIFAR families are made for about 32 px"
    elif facts.side_px <= SMALL_PX:
        plain["data"]["side_px"] = facts.side_px
        notes["data.side_px"] = "the images' own side, since they are small"
    if not facts.has_val:
        notes["data.val_fraction"] = "there is no val folder, so that val is drawn from train"
    if not facts.has_test:
        notes["data.test_fraction"] = "there is no test folder, so that test is drawn from train"
    num_train = facts.num_train
    if num_train < MIN_STEPS * Config().base.batch_size:
        # A power of two that gives an epoch enough steps to learn from.
        batch_size = max(8, 1 << max(0, (num_train // MIN_STEPS).bit_length() - 1))
        plain |= {
            "base": {"batch_size": batch_size},
            "finetune": {"batch_size": batch_size},
            "collect": {"recipe": {"batch_size": batch_size}, "shared": {"batch_size": batch_size}},
        }
        notes["base.batch_size"] = f"smaller than the default, since there are about {num_train} images to train on"
