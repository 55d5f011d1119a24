"""The splits, loaded once for all seeds, and kept on the GPU where there is one."""

from __future__ import annotations

import torch

from triaxis.config import Config
from triaxis.data.images import Images, ResidentImages, Sealed, Splits
from triaxis.data.sources import load_splits
from triaxis.stages.environment import pick_device


def load(config: Config) -> Splits:
    """Return the splits that a configuration names; on a GPU, images that fit in memory are kept on the device.

    Raises:
        DataError: Folders, files or labels are unusable.
    """
    splits, device = load_splits(config.data), pick_device(config)
    if device.type != "cuda":
        return splits
    test = splits.test
    return Splits(
        train=_on(splits.train, device),
        val=_on(splits.val, device),
        test=Sealed(lambda: _on(test.open(), device)),
        class_names=splits.class_names,
    )


def _on(images: Images, device: torch.device) -> Images:
    return images.to(device) if isinstance(images, ResidentImages) else images
